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

-- Of a day's deliveries only the time is asked: with the state in the index's condition no row is read.
create index outbox_delivered on serving.outbox(clinic_id, finished_at) where state = 'delivered';
drop index serving.outbox_ended;

-- The newest verdict of each stream by its key; sorting every verdict there ever was to find it grew with the years.
create or replace view monitoring.verdict_v with (security_invoker = true) as
  select s.clinic_id, c.slug as clinic, s.id as stream_id, d.number, s.task, s.sequence, s.digest,
    v.name || '@' || v.version as model, d.verdict, d.rule, d.sentence, d.action, d.would_change, d.evidence, d.seq, d.since, d.at
  from monitoring.stream s cross join lateral (select n.* from monitoring.verdict n
    where n.clinic_id = s.clinic_id and n.stream_id = s.id order by n.number desc limit 1) d
  join registry.clinic c on c.id = s.clinic_id join registry.model_version v on v.digest = s.digest;
