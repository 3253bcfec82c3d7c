-- Published views, row-level security on every table with clinic_id, and the rights of each role.

-- One query for "what is stuck" (promise P2): every unfinished thing past the moment by which something must have moved it.
create view serving.stuck_v with (security_invoker = true) as
  select clinic_id, id as study_id, revision, state as what, deadline as since from serving.study
    where state = 'receiving' and deadline < now() - interval '60 s'
  union all
  select s.clinic_id, s.id, s.revision, 'no job for ' || s.state, s.last_at from serving.study s
    where s.state in ('ready', 'running') and s.last_at < now() - interval '60 s' and not exists (
      select 1 from registry.job j where j.clinic_id = s.clinic_id and j.study_id = s.id and j.state in ('ready', 'leased'))
  union all
  select clinic_id, study_id, revision, 'lease ran out', lease_until from registry.job
    where state = 'leased' and lease_until < now() - interval '60 s'
  union all
  select clinic_id, study_id, revision, 'waits since an hour', created_at from registry.job
    where state = 'ready' and created_at < now() - interval '1 hour'
  union all
  select clinic_id, study_id, 0, 'delivery lease ran out', lease_until from serving.outbox
    where state = 'leased' and lease_until < now() - interval '60 s';

create view serving.study_v with (security_invoker = true) as
  select s.clinic_id, c.slug as clinic, s.id as study_id, s.revision, s.state, s.lane, s.code, s.first_at, s.last_at, s.finished_at,
    (select count(*) from serving.instance i where i.clinic_id = s.clinic_id and i.study_id = s.id) as instances,
    (select count(*) from serving.outbox o where o.clinic_id = s.clinic_id and o.study_id = s.id and o.state = 'delivered') as delivered,
    (select count(*) from serving.outbox o where o.clinic_id = s.clinic_id and o.study_id = s.id) as to_deliver
  from serving.study s join registry.clinic c on c.id = s.clinic_id;

create view serving.feature_v with (security_invoker = true) as
  select f.seq, f.clinic_id, c.slug as clinic, f.study_id, f.revision, f.task, f.digest, f.scanner_id, f.profile, f.values, f.at
  from serving.feature f join registry.clinic c on c.id = f.clinic_id;

do $$
declare t record;
begin
  for t in select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
           join pg_attribute a on a.attrelid = c.oid and a.attname = 'clinic_id'
           where n.nspname in ('registry', 'serving', 'monitoring') and c.relkind = 'r' loop
    execute format('alter table %I.%I enable row level security', t.nspname, t.relname);
    execute format('alter table %I.%I force row level security', t.nspname, t.relname);
    execute format('create policy tenant on %I.%I to radfleet_app using (clinic_id = (select registry.current_clinic()))
                    with check (clinic_id = (select registry.current_clinic()))', t.nspname, t.relname);
    execute format('create policy fleet on %I.%I to radfleet_system using (true) with check (true)', t.nspname, t.relname);
    execute format('create policy watch on %I.%I for select to radfleet_monitor using (true)', t.nspname, t.relname);
  end loop;
end $$;
-- The clinic's own row is tenant data too.
alter table registry.clinic enable row level security;
alter table registry.clinic force row level security;
create policy tenant on registry.clinic for select to radfleet_app using (id = (select registry.current_clinic()));
create policy fleet on registry.clinic to radfleet_system using (true) with check (true);
create policy watch on registry.clinic for select to radfleet_monitor using (true);
-- A hold on a version has no clinic: every clinic must obey it, none may place it.
create policy version_hold on registry.hold for select to radfleet_app using (kind = 'version');

grant usage on schema registry, serving, monitoring to radfleet_app, radfleet_system, radfleet_monitor, radfleet_backup;
grant execute on all functions in schema registry to radfleet_app, radfleet_system, radfleet_monitor;

-- Tenant work: receive, resolve the binding, finish an attempt. No delete anywhere, no truncate.
grant select on registry.clinic, registry.binding, registry.model_version, registry.hold to radfleet_app;
grant select, insert, update on registry.scanner to radfleet_app;
grant select, insert, update on registry.job to radfleet_app;
grant usage on sequence registry.fence_seq to radfleet_app, radfleet_system;
grant select, insert, update on serving.study, serving.series, serving.instance, serving.attempt,
  serving.result, serving.result_object, serving.destination, serving.outbox to radfleet_app;
grant select, insert on serving.step, serving.feature to radfleet_app;
grant select on serving.stuck_v, serving.study_v, serving.feature_v to radfleet_app;

-- Fleet work: doors looking a sender up, the queue, sweeps, and the operator's command line. Not identity, not UIDs of patients.
grant select, insert, update on registry.clinic, registry.clinic_peer, registry.clinic_key, registry.account, registry.model_version,
  registry.binding, registry.hold, registry.job, registry.chain_head to radfleet_system;
grant select, insert on registry.event to radfleet_system;
grant delete on registry.clinic_peer to radfleet_system;   -- an address no longer in use; its history stands in the events
grant select on registry.scanner to radfleet_system;
grant select (id, clinic_id, revision, state, deadline, hard_deadline, lane, code, cure, first_at, last_at, finished_at) on serving.study to radfleet_system;
grant update (state, deadline, code, cure, finished_at) on serving.study to radfleet_system;
grant select (id, clinic_id, study_id, path, size, received_at, source, version) on serving.instance to radfleet_system;
grant select on serving.step, serving.attempt, serving.destination to radfleet_system;
grant insert on serving.step to radfleet_system;
grant insert, update on serving.destination to radfleet_system;
grant select (id, clinic_id, result_id, kind, path, size) on serving.result_object to radfleet_system;
grant select, update on serving.outbox to radfleet_system;
grant select on serving.stuck_v, serving.study_v to radfleet_system;

grant select on serving.feature_v, serving.study_v, serving.stuck_v to radfleet_monitor;
grant select on registry.clinic, registry.scanner, serving.feature to radfleet_monitor;
grant select (id, clinic_id, revision, state, deadline, lane, code, first_at, last_at, finished_at) on serving.study to radfleet_monitor;
grant select (clinic_id, study_id) on serving.instance to radfleet_monitor;
grant select (clinic_id, study_id, revision, state, created_at, lease_until) on registry.job to radfleet_monitor;
grant select (clinic_id, study_id, state, lease_until) on serving.outbox to radfleet_monitor;
grant select on all tables in schema registry, serving, monitoring to radfleet_backup;
