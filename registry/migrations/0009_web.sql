-- The pages: who may sign in, who is signed in, and what a page reads of the study line.

-- What opens the pages: an account's key. Only its hash is kept. With a clinic it opens the pages of that clinic alone.
create table registry.account_key(
  id uuid primary key default registry.uuid7(),
  clinic_id uuid references registry.clinic,
  account text not null references registry.account(name),
  key_id text not null unique check (length(key_id) = 8),
  sha256 bytea not null check (octet_length(sha256) = 32),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  last_used_on date,
  created_at timestamptz not null default now());

-- One browser that is signed in. Its token is kept as a hash too: who reads this table can open nothing with it.
create table registry.session(
  sha256 bytea primary key check (octet_length(sha256) = 32),
  account_key_id uuid not null references registry.account_key,
  said jsonb,                              -- what the last form did, told once on the page that follows
  seen_at timestamptz not null default now(),
  expires_at timestamptz not null,
  created_at timestamptz not null default now());

alter table registry.account_key enable row level security;
alter table registry.account_key force row level security;
create policy tenant on registry.account_key to radfleet_app using (clinic_id = (select registry.current_clinic()))
  with check (clinic_id = (select registry.current_clinic()));
create policy fleet on registry.account_key to radfleet_system using (true) with check (true);
grant select, insert on registry.account_key, registry.session to radfleet_system;
grant update (revoked_at, last_used_on) on registry.account_key to radfleet_system;
grant update (said, seen_at) on registry.session to radfleet_system;
grant delete on registry.session to radfleet_system;   -- signed out or over: nothing of it is worth keeping
grant select on registry.account_key to radfleet_backup;

create view registry.clinic_v with (security_invoker = true) as
  select c.id as clinic_id, c.slug as clinic, c.name, c.state, c.created_at,
    (select array_agg(distinct concat_ws(' ', s.vendor, s.model) order by concat_ws(' ', s.vendor, s.model))
      from registry.scanner s where s.clinic_id = c.id) as scanners
  from registry.clinic c;

-- What one version answered about one study. Identifiers of the study stay behind.
create view serving.answer_v with (security_invoker = true) as
  select r.clinic_id, c.slug as clinic, r.study_id, r.revision, r.task, r.digest, v.name || '@' || v.version as model,
    r.binding_scope, r.binding_seq, r.created_at, concat_ws(' ', s.vendor, s.model, s.software) as scanner,
    r.findings -> 'findings' as findings, r.findings -> 'numbers' as numbers, r.findings -> 'quality' as quality,
    r.findings -> 'warnings' as warnings, r.findings -> 'not_assessed' as not_assessed,
    r.findings -> 'qualification' ->> 'text' as qualification,
    (select o.id from serving.result_object o where o.clinic_id = r.clinic_id and o.result_id = r.id
      and o.kind = 'preview') as picture
  from serving.result r join registry.clinic c on c.id = r.clinic_id join registry.model_version v using (digest)
  left join registry.scanner s on s.clinic_id = r.clinic_id and s.id = r.scanner_id;

create view serving.step_v with (security_invoker = true) as
  select s.clinic_id, s.study_id, s.revision, s.seq, s.at, s.step, s.detail from serving.step s;

create view serving.delivery_v with (security_invoker = true) as
  select o.clinic_id, o.study_id, o.id, d.name as destination, d.kind as way, r.kind as object, o.state, o.tries, o.last_code,
    o.next_at, o.finished_at
  from serving.outbox o join serving.destination d on d.clinic_id = o.clinic_id and d.id = o.destination_id
  join serving.result_object r on r.clinic_id = o.clinic_id and r.id = o.result_object_id;

create view registry.queue_v with (security_invoker = true) as
  select j.clinic_id, c.slug as clinic, j.kind, j.state, count(*) as jobs, min(j.created_at) as oldest
  from registry.job j join registry.clinic c on c.id = j.clinic_id
  where j.state in ('ready', 'leased', 'dead') group by 1, 2, 3, 4;

-- A page of the fleet is read as radfleet_monitor, a page of one clinic as radfleet_app inside its transaction: there
-- row-level security decides what can be seen, not the page.
grant select (id, clinic_id, study_id, revision, task, digest, scanner_id, binding_scope, binding_seq, findings, created_at)
  on serving.result to radfleet_monitor;
grant select (id, clinic_id, result_id, kind) on serving.result_object to radfleet_monitor;
grant select (id, clinic_id, study_id, destination_id, result_object_id, state, tries, last_code, next_at, finished_at)
  on serving.outbox to radfleet_monitor;
grant select (id, clinic_id, name, kind) on serving.destination to radfleet_monitor;
grant select on serving.step, registry.binding, registry.model_version to radfleet_monitor;
grant select (kind) on registry.job to radfleet_monitor;
grant select on registry.clinic_v, serving.answer_v, serving.step_v, serving.delivery_v, registry.queue_v
  to radfleet_monitor, radfleet_app;
grant select on serving.step, monitoring.policy, monitoring.stream, monitoring.reference_epoch, monitoring.stream_state,
  monitoring.observation, monitoring.verdict, monitoring.flag, monitoring.flag_event to radfleet_app;
grant select on monitoring.stream_v, monitoring.verdict_v, monitoring.flag_v, monitoring.flag_event_v, monitoring.observation_v
  to radfleet_app;
