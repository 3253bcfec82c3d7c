-- A clinic's QA figures of the last 90 days, kept once a day: so that it can be placed among others with the same version
-- without reading what all of them ever did.
create table monitoring.figure(
  clinic_id uuid not null references registry.clinic,
  task text not null, model text not null, name text not null,
  value real not null, n int not null check (n > 0),
  at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, task, model, name));
alter table monitoring.figure enable row level security;
alter table monitoring.figure force row level security;
create policy tenant on monitoring.figure to radfleet_app using (clinic_id = (select registry.current_clinic()))
  with check (clinic_id = (select registry.current_clinic()));
create policy fleet on monitoring.figure for select to radfleet_system using (true);
create policy watch on monitoring.figure to radfleet_monitor using (true) with check (true);
grant select, insert, update on monitoring.figure to radfleet_monitor;
grant select on monitoring.figure to radfleet_system, radfleet_backup;
create index figure_of on monitoring.figure(task, model, name);
alter table monitoring.cursor add column figures_at timestamptz;
