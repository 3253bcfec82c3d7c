-- Studies of a clinic's past, taken over from a table: what its scanners measured before its images came here.
alter table serving.study add history text check (history in ('real', 'simulated'));
