-- What is missing becomes a flag, the days of a clinic are counted, and what performance is estimated to be is kept.

alter table monitoring.flag drop constraint flag_kind_check;
alter table monitoring.flag add constraint flag_kind_check
  check (kind in ('drift', 'acquisition', 'harm', 'missing', 'volume'));

-- One row a clinic and whole day (of UTC), written once, when no study of that day can appear any more.
create table monitoring.day_count(
  clinic_id uuid not null references registry.clinic,
  day date not null,
  studies int not null check (studies >= 0),               -- that came that day; a clinic's past is not counted
  state jsonb not null,                                    -- monitoring/streams/volume.py; a replay of the days gives the same
  at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, day));

-- The latest estimate of a stream's performance. Always called estimated: no verdict, flag or gate reads it.
create table monitoring.estimate(
  clinic_id uuid not null, stream_id uuid not null,
  review_seq bigint not null,                              -- the last review that it knows
  estimated jsonb not null,                                -- monitoring/qa/estimated.py: the figures, or why there are none
  at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, stream_id),
  foreign key (clinic_id, stream_id) references monitoring.stream(clinic_id, id));

do $$
declare t text;
begin
  foreach t in array array['day_count', 'estimate'] loop
    execute format('alter table monitoring.%I enable row level security', t);
    execute format('alter table monitoring.%I force row level security', t);
    execute format('create policy tenant on monitoring.%I to radfleet_app using (clinic_id = (select registry.current_clinic()))
                    with check (clinic_id = (select registry.current_clinic()))', t);
    execute format('create policy fleet on monitoring.%I for select to radfleet_system using (true)', t);
    execute format('create policy watch on monitoring.%I to radfleet_monitor using (true) with check (true)', t);
    execute format('grant select, insert on monitoring.%I to radfleet_monitor', t);
    execute format('grant select on monitoring.%I to radfleet_app, radfleet_system, radfleet_backup', t);
  end loop;
end $$;
create trigger fixed before update or delete on monitoring.day_count for each row execute function registry.refuse_change();
create trigger kept before truncate on monitoring.day_count execute function registry.refuse_change();
grant update on monitoring.estimate to radfleet_monitor;
create index study_day on serving.study(clinic_id, first_at);

create view monitoring.day_count_v with (security_invoker = true) as
  select d.clinic_id, c.slug as clinic, d.day, d.studies, d.state, d.at
  from monitoring.day_count d join registry.clinic c on c.id = d.clinic_id;
create view monitoring.estimate_v with (security_invoker = true) as
  select e.clinic_id, c.slug as clinic, e.stream_id, s.task, s.sequence, s.digest, e.estimated, e.at
  from monitoring.estimate e join monitoring.stream s on s.clinic_id = e.clinic_id and s.id = e.stream_id
  join registry.clinic c on c.id = e.clinic_id;
grant select on monitoring.day_count_v, monitoring.estimate_v to radfleet_monitor, radfleet_system, radfleet_app;
