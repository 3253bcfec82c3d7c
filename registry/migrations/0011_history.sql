-- Studies of a clinic's past, taken over from a table: what its scanners measured before its images came here. They have
-- a state of their own, because nobody here received, answered or delivered them: no count of those holds them.
alter table serving.study drop constraint study_state_check;
alter table serving.study add constraint study_state_check
  check (state in ('receiving', 'ready', 'running', 'done', 'rejected', 'dead', 'past'));
