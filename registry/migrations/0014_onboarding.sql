-- The way of a new clinic until it is delivered to: what it was asked, what was judged, who signed. A step that can be
-- computed is not stored. A clinic without a row in registry.onboarding is delivered to as it always was.

-- Begun by a person, with the measures that hold for this clinic; they do not change on the way.
create table registry.onboarding(
  clinic_id uuid primary key references registry.clinic,
  conform_studies int not null default 10 check (conform_studies between 1 and 1000),
  conform_share real not null default 0.9 check (conform_share > 0 and conform_share <= 1),
  silent_studies int not null default 50 check (silent_studies between 1 and 100000),
  probation_days int not null default 30 check (probation_days between 1 and 365),
  begun_by text not null, reason text not null check (btrim(reason) <> ''),
  begun_at timestamptz not null default clock_timestamp());

-- A step that a person lets pass although it is not fulfilled. Connectivity and acceptance cannot be waived.
create table registry.onboarding_waiver(
  clinic_id uuid not null references registry.onboarding,
  step text not null check (step in ('conformance', 'silent_run')),
  waived_by text not null, reason text not null check (btrim(reason) <> ''),
  waived_at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, step));

-- A version accepted for a clinic on its own cases: proposed by one person, signed by another (as in registry.promotion).
create table registry.acceptance(
  clinic_id uuid not null references registry.onboarding,
  id uuid not null default registry.uuid7(),
  task text not null,
  digest text not null references registry.model_version,
  state text not null default 'proposed' check (state in ('proposed', 'signed', 'withdrawn')),
  reviews int not null check (reviews > 0),                -- that the test had used when it decided
  minutes real not null check (minutes >= 0),              -- of experts, as far as they were told
  odds double precision not null check (odds >= 20),       -- against "worse than the contract"
  evidence jsonb not null,                                 -- contract, means, odds, digest of the reviews
  proposed_by text not null, reason text not null check (btrim(reason) <> ''),
  proposed_at timestamptz not null default clock_timestamp(),
  signed_by text references registry.account(name), signed_reason text not null default '', signed_at timestamptz,
  primary key (clinic_id, id),
  constraint acceptance_two_people check (signed_by <> proposed_by),
  constraint acceptance_signed check ((state = 'signed') = (signed_by is not null) and (signed_by is null) = (signed_at is null)));
create unique index acceptance_once on registry.acceptance(clinic_id, task, digest) where state <> 'withdrawn';

create function registry.guard_acceptance() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and old.state = 'proposed' and new.state in ('signed', 'withdrawn')
      and to_jsonb(new) - array['state', 'signed_by', 'signed_reason', 'signed_at']
        is not distinct from to_jsonb(old) - array['state', 'signed_by', 'signed_reason', 'signed_at'] then
    return new;
  end if;
  raise exception 'an acceptance is never changed or removed, only signed or withdrawn' using errcode = '42501';
end $$;
create trigger acceptance_moves before update or delete on registry.acceptance
  for each row execute function registry.guard_acceptance();
create trigger acceptance_kept before truncate on registry.acceptance execute function registry.refuse_change();

-- Whether answers of a task are computed and not delivered: in onboarding, and no version of it is signed here yet.
create function registry.is_silent(p_clinic uuid, p_task text) returns boolean language sql stable as $$
  select exists (select from registry.onboarding o where o.clinic_id = p_clinic)
    and not exists (select from registry.acceptance a where a.clinic_id = p_clinic and a.task = p_task and a.state = 'signed') $$;

-- One call to a destination: did it answer, at the address that it then had?
create table serving.echo(
  clinic_id uuid not null, id uuid not null default registry.uuid7(), destination_id uuid not null,
  address text not null, ok boolean not null, code text, milliseconds real not null check (milliseconds >= 0),
  at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, id), check (ok = (code is null)),
  foreign key (clinic_id, destination_id) references serving.destination(clinic_id, id));
create index echo_destination on serving.echo(clinic_id, destination_id, at);

-- What a standard says of the acquisition of each answered study. A rule that changed is another digest, so another row.
create table monitoring.conformance(
  clinic_id uuid not null, seq bigint not null,            -- serving.feature
  study_id uuid not null, task text not null, sequence text not null, scanner text not null, scanner_id uuid,
  standard text not null, rules_digest text not null check (rules_digest ~ '^sha256:[0-9a-f]{64}$'),
  verdict text not null check (verdict in ('accept', 'unknown', 'warn', 'refuse')),
  deviations jsonb not null check (jsonb_typeof(deviations) = 'array'),   -- [{"rule", "verdict", "value"}]
  at timestamptz not null,                                 -- of the study
  judged_at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, rules_digest, seq),
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id));

do $$
declare t text;
begin
  foreach t in array array['registry.onboarding', 'registry.onboarding_waiver', 'registry.acceptance', 'serving.echo',
      'monitoring.conformance'] loop
    execute format('alter table %s enable row level security', t);
    execute format('alter table %s force row level security', t);
    execute format('create policy tenant on %s to radfleet_app using (clinic_id = (select registry.current_clinic()))
                    with check (clinic_id = (select registry.current_clinic()))', t);
    execute format('grant select on %s to radfleet_app, radfleet_system, radfleet_monitor, radfleet_backup', t);
  end loop;
  foreach t in array array['registry.onboarding', 'registry.onboarding_waiver', 'registry.acceptance', 'serving.echo'] loop
    execute format('create policy fleet on %s to radfleet_system using (true) with check (true)', t);
    execute format('create policy watch on %s for select to radfleet_monitor using (true)', t);
    execute format('grant insert on %s to radfleet_system', t);
  end loop;
  foreach t in array array['registry.onboarding', 'registry.onboarding_waiver', 'serving.echo', 'monitoring.conformance'] loop
    execute format('create trigger fixed before update or delete on %s for each row execute function registry.refuse_change()', t);
    execute format('create trigger kept before truncate on %s execute function registry.refuse_change()', t);
  end loop;
end $$;
create policy fleet on monitoring.conformance for select to radfleet_system using (true);
create policy watch on monitoring.conformance to radfleet_monitor using (true) with check (true);
grant insert on monitoring.conformance to radfleet_monitor;
grant update (state, signed_by, signed_reason, signed_at) on registry.acceptance to radfleet_system;

create view registry.onboarding_v with (security_invoker = true) as
  select o.clinic_id, c.slug as clinic, o.conform_studies, o.conform_share, o.silent_studies, o.probation_days, o.begun_by,
    o.reason, o.begun_at, coalesce((select jsonb_object_agg(w.step, jsonb_build_object('by', w.waived_by, 'reason', w.reason,
      'at', w.waived_at)) from registry.onboarding_waiver w where w.clinic_id = o.clinic_id), '{}') as waived
  from registry.onboarding o join registry.clinic c on c.id = o.clinic_id;

create view registry.acceptance_v with (security_invoker = true) as
  select a.clinic_id, c.slug as clinic, a.id as acceptance_id, a.task, a.digest, v.name || '@' || v.version as model, a.state,
    a.reviews, a.minutes, a.odds, a.evidence, a.proposed_by, a.reason, a.proposed_at, a.signed_by, a.signed_reason, a.signed_at
  from registry.acceptance a join registry.clinic c on c.id = a.clinic_id join registry.model_version v using (digest);

-- The last call to each active destination, and whether the destination still has the address that was called.
create view serving.echo_v with (security_invoker = true) as
  select d.clinic_id, c.slug as clinic, d.id as destination_id, d.name as destination, d.kind, e.ok, e.code, e.milliseconds, e.at,
    e.address = case d.kind when 'cstore' then d.host || ':' || d.port || ' ' || d.ae_title else d.url end as present
  from serving.destination d join registry.clinic c on c.id = d.clinic_id
  left join lateral (select * from serving.echo x where x.clinic_id = d.clinic_id and x.destination_id = d.id
    order by x.at desc limit 1) e on true
  where d.active;

-- Conformance per scanner and month: what drift is read beside. Where no header said enough, `unknown` counts it.
create view monitoring.conformance_v with (security_invoker = true) as
  select f.clinic_id, c.slug as clinic, f.task, f.sequence, f.scanner, f.standard, f.rules_digest,
    (date_trunc('month', f.at at time zone 'UTC'))::date as month, count(*) as studies,
    count(*) filter (where f.verdict = 'accept') as accepted, count(*) filter (where f.verdict = 'warn') as warned,
    count(*) filter (where f.verdict = 'refuse') as refused, count(*) filter (where f.verdict = 'unknown') as unknown,
    max(f.seq) as last_seq, max(f.at) as last_at
  from monitoring.conformance f join registry.clinic c on c.id = f.clinic_id group by 1, 2, 3, 4, 5, 6, 7, 8;

create view monitoring.deviation_v with (security_invoker = true) as
  select f.clinic_id, c.slug as clinic, f.task, f.sequence, f.scanner, f.standard, f.rules_digest,
    (date_trunc('month', f.at at time zone 'UTC'))::date as month, d.value ->> 'rule' as rule, d.value ->> 'verdict' as verdict,
    count(*) as studies, (array_agg(d.value -> 'value' order by f.seq desc))[1] as last_value, max(f.at) as last_at
  from monitoring.conformance f join registry.clinic c on c.id = f.clinic_id, jsonb_array_elements(f.deviations) d
  group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10;

-- What came in from a clinic's own senders, by door; studies taken over from its past are none of it.
create view serving.arrival_v with (security_invoker = true) as
  select i.clinic_id, c.slug as clinic, i.source as door, count(*) as instances,
    count(distinct i.study_id) as studies, min(i.received_at) as first_at, max(i.received_at) as last_at
  from serving.instance i join registry.clinic c on c.id = i.clinic_id group by 1, 2, 3;

grant select on registry.onboarding_v, registry.acceptance_v to radfleet_system, radfleet_monitor;
grant select on serving.echo_v, serving.arrival_v to radfleet_system;
grant select on monitoring.conformance_v, monitoring.deviation_v to radfleet_system, radfleet_monitor, radfleet_app;
