-- What scanners a clinic has is read every day and must not cost as much as all that was ever answered: the follower
-- counts it as it takes rows. `acquired` is how far it has; what was taken before this migration is counted at its next turn.
create table monitoring.acquisition(
  clinic_id uuid not null references registry.clinic,
  scanner_id uuid, vendor text not null, model text not null, software text not null,   -- '?' where the header does not say
  studies int not null check (studies >= 0), first_at timestamptz not null, last_at timestamptz not null,
  unique nulls not distinct (clinic_id, scanner_id, vendor, model, software));
alter table monitoring.acquisition enable row level security;
alter table monitoring.acquisition force row level security;
create policy tenant on monitoring.acquisition to radfleet_app using (clinic_id = (select registry.current_clinic()))
  with check (clinic_id = (select registry.current_clinic()));
create policy fleet on monitoring.acquisition for select to radfleet_system using (true);
create policy watch on monitoring.acquisition to radfleet_monitor using (true) with check (true);
grant select, insert, update on monitoring.acquisition to radfleet_monitor;
grant select on monitoring.acquisition to radfleet_system, radfleet_backup;
alter table monitoring.cursor add column acquired bigint not null default 0 check (acquired >= 0);

create view monitoring.acquisition_v with (security_invoker = true) as
  select a.clinic_id, c.slug as clinic, a.scanner_id, a.vendor, a.model, a.software, a.studies, a.first_at, a.last_at
  from monitoring.acquisition a join registry.clinic c on c.id = a.clinic_id;
grant select on monitoring.acquisition_v to radfleet_monitor, radfleet_system;
drop view serving.acquisition_v;
