-- What pages and /metrics ask of a whole fleet costs as much as the answer is long, not as much as was ever received.

-- Jobs that wait, are leased or are given up have an index each; `in (...)` used none and read every job there ever was.
create index job_dead on registry.job(clinic_id) where state = 'dead';
create or replace view registry.queue_v with (security_invoker = true) as
  select j.clinic_id, c.slug as clinic, j.kind, j.state, count(*) as jobs, min(j.created_at) as oldest
  from (select clinic_id, kind, state, created_at from registry.job where state = 'ready'
    union all select clinic_id, kind, state, created_at from registry.job where state = 'leased'
    union all select clinic_id, kind, state, created_at from registry.job where state = 'dead') j
  join registry.clinic c on c.id = j.clinic_id group by 1, 2, 3, 4;
create or replace view monitoring.lane_load_v with (security_invoker = true) as
  select coalesce(s.lane, j.kind) as lane, count(*) filter (where j.state = 'ready') as ready,
    count(*) filter (where j.state = 'leased') as leased,
    min(greatest(j.run_at, j.created_at)) filter (where j.state = 'ready' and j.run_at <= now()) as oldest_ready
  from (select clinic_id, study_id, kind, state, run_at, created_at from registry.job where state = 'ready'
    union all select clinic_id, study_id, kind, state, run_at, created_at from registry.job where state = 'leased') j
  left join serving.study s on s.clinic_id = j.clinic_id and s.id = j.study_id
  group by 1;

-- Of a day's deliveries only time and state are asked: with both in the index no row is read.
drop index serving.outbox_ended;
create index outbox_ended on serving.outbox(clinic_id, finished_at, state) where finished_at is not null;

-- The newest verdict of each stream by its key; sorting every verdict there ever was to find it grew with the years.
create or replace view monitoring.verdict_v with (security_invoker = true) as
  select s.clinic_id, c.slug as clinic, s.id as stream_id, d.number, s.task, s.sequence, s.digest,
    v.name || '@' || v.version as model, d.verdict, d.rule, d.sentence, d.action, d.would_change, d.evidence, d.seq, d.since, d.at
  from monitoring.stream s cross join lateral (select n.* from monitoring.verdict n
    where n.clinic_id = s.clinic_id and n.stream_id = s.id order by n.number desc limit 1) d
  join registry.clinic c on c.id = s.clinic_id join registry.model_version v on v.digest = s.digest;

-- Counts of a study's deliveries as columns of their own: a page that shows 50 studies must not count those of all others.
create or replace view serving.study_v with (security_invoker = true) as
  select s.clinic_id, c.slug as clinic, s.id as study_id, s.revision, s.state, s.lane, s.code, s.first_at, s.last_at, s.finished_at,
    (select count(*) from serving.instance i where i.clinic_id = s.clinic_id and i.study_id = s.id) as instances,
    (select count(*) from serving.outbox o where o.clinic_id = s.clinic_id and o.study_id = s.id and o.state = 'delivered') as delivered,
    (select count(*) from serving.outbox o where o.clinic_id = s.clinic_id and o.study_id = s.id and o.state <> 'superseded')
      as to_deliver,
    (select count(*) from serving.outbox o where o.clinic_id = s.clinic_id and o.study_id = s.id and o.state = 'superseded')
      as superseded
  from serving.study s join registry.clinic c on c.id = s.clinic_id;
-- The newest 50 of the fleet, without sorting all that was ever received.
create index study_newest on serving.study(first_at);
