-- Reference values, waiting rows and latest scores of a stream, a row each: its state stays small (monitoring/streams/parts.py).
-- Reference rows change only while the reference grows, and those of earlier epochs stay; the other parts reuse their slots.
create table monitoring.kept_row(
  clinic_id uuid not null, stream_id uuid not null,
  part text not null check (part in ('collecting', 'history', 'waiting', 'reference')),
  epoch int not null,                                      -- in which the reference began; 0 for the other parts
  scanner_group int not null,                              -- its number in the state; 0 for the other parts
  slot int not null check (slot >= 0),
  number bigint not null check (number >= 0),              -- of the row; the newest of a slot holds
  body bytea not null,
  primary key (clinic_id, stream_id, part, epoch, scanner_group, slot),
  foreign key (clinic_id, stream_id) references monitoring.stream(clinic_id, id));
alter table monitoring.kept_row enable row level security;
alter table monitoring.kept_row force row level security;
create policy tenant on monitoring.kept_row to radfleet_app using (clinic_id = (select registry.current_clinic()))
  with check (clinic_id = (select registry.current_clinic()));
create policy fleet on monitoring.kept_row for select to radfleet_system using (true);
create policy watch on monitoring.kept_row to radfleet_monitor using (true) with check (true);
grant select, insert, update on monitoring.kept_row to radfleet_monitor;
grant select on monitoring.kept_row to radfleet_system, radfleet_backup;

-- Epochs of every stream, for those who ask since when and by whom a clinic is judged against what.
create view monitoring.epoch_v with (security_invoker = true) as
  select e.clinic_id, c.slug as clinic, e.stream_id, s.task, s.sequence, s.digest, v.name || '@' || v.version as model,
    e.epoch, e.cause, e.fresh, e.from_seq, e.threshold, e.promotion_id, e.by_whom, e.reason, e.at,
    e.epoch = t.epoch as holds,
    (select count(*) from monitoring.kept_row k where k.clinic_id = e.clinic_id and k.stream_id = e.stream_id
      and k.part = 'reference' and k.epoch = e.epoch)::int as reference_rows
  from monitoring.reference_epoch e
  join monitoring.stream s on s.clinic_id = e.clinic_id and s.id = e.stream_id
  join monitoring.stream_state t on t.clinic_id = e.clinic_id and t.stream_id = e.stream_id
  join registry.clinic c on c.id = e.clinic_id join registry.model_version v on v.digest = s.digest;
grant select on monitoring.epoch_v to radfleet_monitor, radfleet_system;
