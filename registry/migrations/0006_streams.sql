-- The flag line: a clinic's feature rows become streams, streams get a verdict, what needs a person becomes a flag.
-- One writer: radfleet_monitor. Everybody else reads the *_v views below.

-- Which binding answered a study: a rollback to an earlier version begins a new reference in that version's stream.
create or replace view serving.feature_v with (security_invoker = true) as
  select f.seq, f.clinic_id, c.slug as clinic, f.study_id, f.revision, f.task, f.digest, f.scanner_id, f.profile, f.values, f.at,
    r.binding_scope, r.binding_seq
  from serving.feature f join registry.clinic c on c.id = f.clinic_id
  left join serving.result r on r.clinic_id = f.clinic_id and r.study_id = f.study_id and r.revision = f.revision and r.task = f.task;
create index feature_clinic on serving.feature(clinic_id, seq);
grant select (clinic_id, study_id, revision, task, binding_scope, binding_seq) on serving.result to radfleet_monitor;

-- Every binding with the promotion that made it: who proposed it, who approved it.
create view registry.binding_v with (security_invoker = true) as
  select b.clinic_id, c.slug as clinic, b.task, b.scope, b.seq, b.digest, v.name || '@' || v.version as model,
    lower(b.valid) as since, upper(b.valid) as until, b.bound_by, b.reason, b.promotion_id,
    p.kind as promotion_kind, p.proposed_by, p.approved_by
  from registry.binding b join registry.clinic c on c.id = b.clinic_id join registry.model_version v using (digest)
  left join registry.promotion p on p.clinic_id = b.clinic_id and p.id = b.promotion_id;
create policy watch on registry.promotion for select to radfleet_monitor using (true);
grant select on registry.binding_v, registry.binding, registry.promotion, registry.model_version to radfleet_monitor;
grant select on registry.binding_v to radfleet_system;

-- How a clinic is watched. The newest row holds; without one the first margins below hold.
create table monitoring.policy(
  clinic_id uuid not null references registry.clinic,
  version int not null check (version > 0),
  per_day real not null check (per_day > 0),               -- studies a day of one stream
  budget real not null check (budget > 0),                 -- false drift flags a clinic-year that are allowed
  silent_after interval not null check (silent_after > interval '0'),
  set_by text not null, reason text not null check (btrim(reason) <> ''),
  set_at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, version));

-- What the clinic was promised: a mean Dice below d_ref - margin is harm. A fixed number, never an estimate.
create table monitoring.contract(
  clinic_id uuid not null references registry.clinic,
  task text not null, sequence text not null,
  version int not null check (version > 0),
  d_ref double precision not null check (d_ref > 0 and d_ref <= 1),
  margin double precision not null check (margin > 0 and margin < d_ref),
  people int not null check (people > 0),                  -- how many people d_ref was measured on
  set_by text not null, reason text not null check (btrim(reason) <> ''),
  set_at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, task, sequence, version));

-- Where the follower stands. Its lock lets one process at a time follow a clinic.
create table monitoring.cursor(
  clinic_id uuid primary key references registry.clinic,
  seq bigint not null default 0 check (seq >= 0));

create table monitoring.stream(
  clinic_id uuid not null references registry.clinic,
  id uuid not null default registry.uuid7(),
  task text not null, sequence text not null,
  digest text not null references registry.model_version,
  began_seq bigint not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, id), unique (clinic_id, task, sequence, digest));

-- An epoch: the rows of a stream that are judged against one reference.
create table monitoring.reference_epoch(
  clinic_id uuid not null, stream_id uuid not null, epoch int not null check (epoch > 0),
  from_seq bigint not null,                                -- rows after this one belong to it
  cause text not null check (cause in ('first', 'promotion', 'rollback', 'binding', 'person')),
  fresh boolean not null,                                  -- false: the reference is kept, only the sums begin again
  threshold double precision not null check (threshold > 0),
  promotion_id bigint, by_whom text not null, reason text not null check (btrim(reason) <> ''),
  at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, stream_id, epoch),
  foreign key (clinic_id, stream_id) references monitoring.stream(clinic_id, id));

create table monitoring.stream_state(
  clinic_id uuid not null, stream_id uuid not null,
  seq bigint not null,                                     -- the last feature row taken
  epoch int not null,
  state bytea not null,                                    -- monitoring/streams/state.py; a replay gives the same bytes
  facts jsonb not null,                                    -- the same for people: n, groups, what is watched, what is missing
  n int not null, ranked int not null, statistic double precision not null, threshold double precision not null,
  watching boolean not null, flagged_seq bigint, since_seq bigint,
  last_at timestamptz not null,                            -- of the last study
  primary key (clinic_id, stream_id),
  foreign key (clinic_id, stream_id) references monitoring.stream(clinic_id, id),
  foreign key (clinic_id, stream_id, epoch) references monitoring.reference_epoch(clinic_id, stream_id, epoch));

-- What each row did: the curve of a page, and the proof that no study was counted twice.
create table monitoring.observation(
  clinic_id uuid not null, stream_id uuid not null, seq bigint not null, study_id uuid not null,
  at timestamptz not null, epoch int not null, scanner_group text not null,
  outcome text not null check (outcome in ('reference', 'ranked', 'learning', 'new_group', 'again', 'nothing', 'crowded')),
  statistic double precision not null, top_feature text,
  primary key (clinic_id, stream_id, seq),
  foreign key (clinic_id, stream_id) references monitoring.stream(clinic_id, id));
create index observation_study on monitoring.observation(clinic_id, study_id);

create table monitoring.verdict(
  clinic_id uuid not null, stream_id uuid not null, number int not null check (number > 0),
  seq bigint not null,                                     -- the feature row after which it was given
  verdict text not null check (verdict in
    ('not_enough_data', 'healthy', 'watch', 'hold', 'recalibrate', 'fine_tune')),
  rule smallint not null check (rule between 1 and 9),     -- the row of the table that matched
  sentence text not null, action text not null, would_change text not null,
  evidence jsonb not null,
  since timestamptz not null default clock_timestamp(),    -- when this verdict began
  at timestamptz not null default clock_timestamp(),       -- when its evidence was last renewed
  primary key (clinic_id, stream_id, number),
  foreign key (clinic_id, stream_id) references monitoring.stream(clinic_id, id));

create table monitoring.flag(
  id bigint generated always as identity primary key,
  clinic_id uuid not null, stream_id uuid not null,
  kind text not null check (kind in ('drift', 'acquisition', 'harm')),
  epoch int not null, subject text not null,               -- what it is about within kind and epoch: raised once
  state text not null default 'open' check (state in ('open', 'acknowledged', 'resolved')),
  seq bigint not null,                                     -- the feature row that raised it
  since_seq bigint not null, since_at timestamptz not null,
  statistic double precision not null, threshold double precision not null,
  features jsonb not null default '[]',                    -- [{"name", "direction", "certain"}], strongest first
  cause jsonb not null default '{}',                       -- which scanner group, what of it changed
  binding_scope text, sentence text not null, would_change text not null,
  seen int not null default 1,                             -- rows since then that said it again
  opened_at timestamptz not null default clock_timestamp(), changed_at timestamptz not null default clock_timestamp(),
  acknowledged_by text, acknowledged_at timestamptz, acknowledged_reason text,
  muted_until timestamptz, muted_by text, muted_reason text,
  resolved_by text, resolved_at timestamptz, resolved_reason text, promotion_id bigint,
  unique (clinic_id, id), unique (clinic_id, stream_id, kind, epoch, subject),
  check ((state = 'resolved') = (resolved_at is not null)),
  check (resolved_at is null or (resolved_by is not null and btrim(resolved_reason) <> '')),
  check ((muted_until is null) = (muted_by is null)),
  foreign key (clinic_id, stream_id) references monitoring.stream(clinic_id, id),
  foreign key (clinic_id, stream_id, epoch) references monitoring.reference_epoch(clinic_id, stream_id, epoch));

-- A flag's record, each event carrying the hash of the one before it.
create table monitoring.flag_event(
  clinic_id uuid not null, flag_id bigint not null, seq int not null check (seq > 0),
  at timestamptz not null, actor text not null, type text not null, body text not null,
  prev_hash bytea not null, hash bytea not null,
  primary key (clinic_id, flag_id, seq),
  foreign key (clinic_id, flag_id) references monitoring.flag(clinic_id, id));
create trigger flag_event_fixed before update or delete on monitoring.flag_event
  for each row execute function registry.refuse_change();
create trigger flag_event_kept before truncate on monitoring.flag_event execute function registry.refuse_change();
create function monitoring.append_flag_event(p_clinic uuid, p_flag bigint, p_actor text, p_type text, p_body text)
returns int language plpgsql as $$
declare ph bytea; s int; t timestamptz := clock_timestamp();
begin
  perform 1 from monitoring.flag where clinic_id = p_clinic and id = p_flag for update;   -- the lock of this record
  select seq + 1, hash into s, ph from monitoring.flag_event
    where clinic_id = p_clinic and flag_id = p_flag order by seq desc limit 1;
  s := coalesce(s, 1);
  ph := coalesce(ph, sha256(convert_to('radfleet:flag:' || p_flag, 'UTF8')));
  insert into monitoring.flag_event values (p_clinic, p_flag, s, t, p_actor, p_type, p_body, ph,
    sha256(ph || convert_to(concat_ws(E'\x1f', p_flag, s,
      to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), p_actor, p_type, p_body), 'UTF8')));
  return s;
end $$;

-- What is to be told to the outside, at most once a change. 'unsure': we do not know whether it arrived, so it is not sent again.
create table monitoring.notice(
  clinic_id uuid not null, flag_id bigint not null, event_seq int not null,
  state text not null default 'ready' check (state in ('ready', 'sending', 'sent', 'unsure', 'given_up')),
  tries int not null default 0, next_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz, last_code text,
  primary key (clinic_id, flag_id, event_seq),
  foreign key (clinic_id, flag_id, event_seq) references monitoring.flag_event(clinic_id, flag_id, seq));
create index notice_ready on monitoring.notice(next_at) where state in ('ready', 'sending');

do $$
declare t text;
begin
  foreach t in array array['policy', 'contract', 'cursor', 'stream', 'reference_epoch', 'stream_state', 'observation',
      'verdict', 'flag', 'flag_event', 'notice'] loop
    execute format('alter table monitoring.%I enable row level security', t);
    execute format('alter table monitoring.%I force row level security', t);
    execute format('create policy tenant on monitoring.%I to radfleet_app using (clinic_id = (select registry.current_clinic()))
                    with check (clinic_id = (select registry.current_clinic()))', t);
    execute format('create policy fleet on monitoring.%I for select to radfleet_system using (true)', t);
    execute format('create policy watch on monitoring.%I to radfleet_monitor using (true) with check (true)', t);
    execute format('grant select, insert on monitoring.%I to radfleet_monitor', t);
    execute format('grant select on monitoring.%I to radfleet_system, radfleet_backup', t);
  end loop;
end $$;
-- Policies, contracts, epochs, observations and a flag's record are written once.
grant update on monitoring.cursor, monitoring.stream_state, monitoring.verdict, monitoring.flag, monitoring.notice
  to radfleet_monitor;

-- One row a stream, and one for each bound task of which no study came yet.
create view monitoring.stream_v with (security_invoker = true) as
  select s.clinic_id, c.slug as clinic, s.id as stream_id, s.task, s.sequence, s.digest, v.name || '@' || v.version as model,
    case
      when not b.bound then 'superseded'
      when f.open_flags > 0 then 'flagged'                 -- before silence: a clinic that stops sending is not cured
      when t.last_at < now() - coalesce(p.silent_after, interval '3 days') then 'silent'
      when t.watching then 'watch'
      when t.facts ->> 'phase' = 'collecting' then 'collecting'
      else 'quiet' end as state,
    t.n, t.ranked, t.statistic, t.threshold, t.epoch, e.cause as epoch_cause, e.at as epoch_at, e.promotion_id,
    t.facts -> 'groups' as scanner_groups, t.facts -> 'watched' as watched, t.facts -> 'unwatched' as unwatched,
    t.facts -> 'missing' as missing, t.flagged_seq, t.since_seq,
    (select o.at from monitoring.observation o where o.clinic_id = s.clinic_id and o.stream_id = s.id and o.seq = t.since_seq) as since_at,
    t.seq, t.last_at, coalesce(p.silent_after, interval '3 days') as silent_after,
    t.last_at < now() - coalesce(p.silent_after, interval '3 days') as silent, f.open_flags
  from monitoring.stream s join registry.clinic c on c.id = s.clinic_id join registry.model_version v using (digest)
  join monitoring.stream_state t on t.clinic_id = s.clinic_id and t.stream_id = s.id
  join monitoring.reference_epoch e on e.clinic_id = s.clinic_id and e.stream_id = s.id and e.epoch = t.epoch
  cross join lateral (select exists (select from registry.binding b where b.clinic_id = s.clinic_id and b.task = s.task
    and b.digest = s.digest and b.role = 'active' and upper_inf(b.valid)) as bound) b
  cross join lateral (select count(*) as open_flags from monitoring.flag f where f.clinic_id = s.clinic_id
    and f.stream_id = s.id and f.state <> 'resolved') f
  left join lateral (select q.silent_after from monitoring.policy q where q.clinic_id = s.clinic_id
    order by q.version desc limit 1) p on true
  union all
  select b.clinic_id, c.slug, null, b.task, null, b.digest, v.name || '@' || v.version, 'no study yet',
    0, 0, 0, null, null, null, null, null, '[]', '[]', '{}', '{}', null, null, null, null, null,
    coalesce(p.silent_after, interval '3 days'), true, 0
  from (select distinct clinic_id, task, digest from registry.binding where role = 'active' and upper_inf(valid)) b
  join registry.clinic c on c.id = b.clinic_id join registry.model_version v using (digest)
  left join lateral (select q.silent_after from monitoring.policy q where q.clinic_id = b.clinic_id
    order by q.version desc limit 1) p on true
  where not exists (select from monitoring.stream s where s.clinic_id = b.clinic_id and s.task = b.task and s.digest = b.digest);

-- The verdict that holds for each stream.
create view monitoring.verdict_v with (security_invoker = true) as
  select distinct on (d.clinic_id, d.stream_id) d.clinic_id, c.slug as clinic, d.stream_id, d.number, s.task, s.sequence, s.digest,
    v.name || '@' || v.version as model, d.verdict, d.rule, d.sentence, d.action, d.would_change, d.evidence, d.seq, d.since, d.at
  from monitoring.verdict d join monitoring.stream s on s.clinic_id = d.clinic_id and s.id = d.stream_id
  join registry.clinic c on c.id = d.clinic_id join registry.model_version v on v.digest = s.digest
  order by d.clinic_id, d.stream_id, d.number desc;

create view monitoring.flag_v with (security_invoker = true) as
  select f.id, f.clinic_id, c.slug as clinic, f.stream_id, s.task, s.sequence, s.digest, v.name || '@' || v.version as model,
    f.kind, f.epoch, f.subject,
    case when f.state <> 'resolved' and f.muted_until > now() then 'muted' else f.state end as state,
    f.seq, f.since_seq, f.since_at, f.statistic, f.threshold, f.features, f.cause, f.binding_scope, f.sentence, f.would_change,
    f.seen, f.opened_at, f.changed_at, f.acknowledged_by, f.acknowledged_at, f.acknowledged_reason,
    f.muted_until, f.muted_by, f.muted_reason, f.resolved_by, f.resolved_at, f.resolved_reason, f.promotion_id,
    d.verdict, d.rule as verdict_rule, d.sentence as verdict_sentence, d.action as verdict_action
  from monitoring.flag f join monitoring.stream s on s.clinic_id = f.clinic_id and s.id = f.stream_id
  join registry.clinic c on c.id = f.clinic_id join registry.model_version v on v.digest = s.digest
  left join monitoring.verdict_v d on d.clinic_id = f.clinic_id and d.stream_id = f.stream_id;

create view monitoring.flag_event_v with (security_invoker = true) as
  select e.clinic_id, c.slug as clinic, e.flag_id, e.seq, e.at, e.actor, e.type, e.body::jsonb as body
  from monitoring.flag_event e join registry.clinic c on c.id = e.clinic_id;

create view monitoring.observation_v with (security_invoker = true) as
  select o.clinic_id, c.slug as clinic, o.stream_id, o.seq, o.study_id, o.at, o.epoch, o.scanner_group, o.outcome, o.statistic,
    o.top_feature
  from monitoring.observation o join registry.clinic c on c.id = o.clinic_id;
grant select on monitoring.stream_v, monitoring.verdict_v, monitoring.flag_v, monitoring.flag_event_v, monitoring.observation_v
  to radfleet_monitor, radfleet_system;
