-- What /metrics, dashboards and alerts read: one row a clinic, a lane or a version, counted here and nowhere else.
-- Ages and "of a day" are by the database's clock at the moment of reading.

-- Receiving touches none of these: its rows have no such state and no end yet.
create index study_waiting on serving.study(clinic_id) where state in ('ready', 'running');
create index study_ended on serving.study(clinic_id, finished_at) where finished_at is not null;
create index outbox_undelivered on serving.outbox(clinic_id) where state <> 'delivered';
create index outbox_ended on serving.outbox(clinic_id, finished_at) where finished_at is not null;
create index result_recent on serving.result(clinic_id, created_at);
-- Promise P6 broken: the loader read other bytes than the attempt's binding names.
create index attempt_mismatch on serving.attempt(clinic_id)
  where code = 'engine.identity_mismatch' or echoed_digest <> digest;

-- A clinic without a binding is not expected to be heard, so last_heard_at begins with its first binding.
create view monitoring.clinic_load_v with (security_invoker = true) as
  select c.id as clinic_id, c.slug as clinic, c.state,
    u.receiving, u.oldest_deadline, w.ready, w.running, e.done_24h, e.rejected_24h, e.dead_24h, k.stuck, k.stuck_since,
    case when b.since is not null then greatest(l.last_at, b.since) end as last_heard_at,
    coalesce(p.silent_after, interval '3 days') as silent_after,
    o.undelivered, o.delivery_failed, o.oldest_undelivered, d.delivered_24h, m.mismatches, r.misbound_24h
  from registry.clinic c
  cross join lateral (select count(*) as receiving, min(s.deadline) as oldest_deadline from serving.study s
    where s.clinic_id = c.id and s.state = 'receiving') u
  cross join lateral (select count(*) filter (where s.state = 'ready') as ready, count(*) filter (where s.state = 'running') as running
    from serving.study s where s.clinic_id = c.id and s.state in ('ready', 'running')) w
  cross join lateral (select count(*) filter (where s.state = 'done') as done_24h,
      count(*) filter (where s.state = 'rejected') as rejected_24h, count(*) filter (where s.state = 'dead') as dead_24h
    from serving.study s where s.clinic_id = c.id and s.finished_at > now() - interval '24 hours') e
  left join lateral (select s.last_at from serving.study s where s.clinic_id = c.id and s.state <> 'past'
    order by s.id desc limit 1) l on true
  left join (select clinic_id, count(distinct study_id) as stuck, min(since) as stuck_since from serving.stuck_v group by 1) k
    on k.clinic_id = c.id
  left join (select clinic_id, min(lower(valid)) as since from registry.binding
    where role = 'active' and upper_inf(valid) group by 1) b on b.clinic_id = c.id
  left join lateral (select q.silent_after from monitoring.policy q where q.clinic_id = c.id order by q.version desc limit 1) p on true
  cross join lateral (select count(*) filter (where x.state <> 'failed') as undelivered,
      count(*) filter (where x.state = 'failed') as delivery_failed,
      min(x.created_at) filter (where x.state <> 'failed') as oldest_undelivered
    from serving.outbox x where x.clinic_id = c.id and x.state <> 'delivered') o
  cross join lateral (select count(*) as delivered_24h from serving.outbox x
    where x.clinic_id = c.id and x.state = 'delivered' and x.finished_at > now() - interval '24 hours') d
  cross join lateral (select count(*) as mismatches from serving.attempt a
    where a.clinic_id = c.id and (a.code = 'engine.identity_mismatch' or a.echoed_digest <> a.digest)) m
  cross join lateral (select count(*) as misbound_24h from serving.result t left join registry.binding g
      on g.clinic_id = t.clinic_id and g.task = t.task and g.scope = t.binding_scope and g.seq = t.binding_seq and g.role = 'active'
    where t.clinic_id = c.id and t.created_at > now() - interval '24 hours' and t.digest is distinct from g.digest) r;

-- What waits for a worker and what one has, by lane; work without a study stands under its kind.
create view monitoring.lane_load_v with (security_invoker = true) as
  select coalesce(s.lane, j.kind) as lane, count(*) filter (where j.state = 'ready') as ready,
    count(*) filter (where j.state = 'leased') as leased,
    min(greatest(j.run_at, j.created_at)) filter (where j.state = 'ready' and j.run_at <= now()) as oldest_ready
  from registry.job j left join serving.study s on s.clinic_id = j.clinic_id and s.id = j.study_id
  where j.state in ('ready', 'leased') group by 1;

-- How long a day's studies took from the last image to the end.
create view monitoring.turnaround_24h_v with (security_invoker = true) as
  select count(*) as studies,
    percentile_cont(0.5) within group (order by extract(epoch from s.finished_at - s.last_at)) as p50_s,
    percentile_cont(0.95) within group (order by extract(epoch from s.finished_at - s.last_at)) as p95_s,
    max(s.finished_at) as last_done_at
  from serving.study s where s.state = 'done' and s.finished_at > now() - interval '24 hours';

create view monitoring.answers_24h_v with (security_invoker = true) as
  select r.clinic_id, c.slug as clinic, r.task, r.digest, count(*) as answers
  from serving.result r join registry.clinic c on c.id = r.clinic_id
  where r.created_at > now() - interval '24 hours' group by 1, 2, 3, 4;

create view monitoring.promotion_load_v with (security_invoker = true) as
  select p.clinic_id, c.slug as clinic, p.kind, p.state, count(*) as promotions, min(p.changed_at) as oldest
  from registry.promotion p join registry.clinic c on c.id = p.clinic_id group by 1, 2, 3, 4;

create view monitoring.promotion_v with (security_invoker = true) as
  select p.id, p.clinic_id, c.slug as clinic, p.task, p.scope, p.kind, p.state, p.digest, v.name || '@' || v.version as model,
    p.changed_at
  from registry.promotion p join registry.clinic c on c.id = p.clinic_id join registry.model_version v using (digest);

-- A month of reviews that count: one case is one study, the mean of its readers.
create view monitoring.review_load_v with (security_invoker = true) as
  select r.clinic_id, r.clinic, r.task, r.blinded, r.decision, count(*) as reviews from serving.review_v r
  where r.at > now() - interval '30 days' group by 1, 2, 3, 4, 5;
create view monitoring.dice_load_v with (security_invoker = true) as
  select clinic_id, clinic, task, blinded, count(*) as cases, avg(dice) as dice from (
    select r.clinic_id, r.clinic, r.task, r.blinded, r.study_id, avg(r.dice) as dice from serving.review_v r
    where r.dice is not null and r.at > now() - interval '30 days' group by 1, 2, 3, 4, 5) cases
  group by 1, 2, 3, 4;

-- How far the follower is: the oldest feature row that it has not taken.
create view monitoring.follower_v with (security_invoker = true) as
  select c.id as clinic_id, c.slug as clinic, n.unread, n.oldest_unread from registry.clinic c
  left join monitoring.cursor k on k.clinic_id = c.id
  cross join lateral (select count(*) as unread, min(f.at) as oldest_unread from serving.feature f
    where f.clinic_id = c.id and f.seq > coalesce(k.seq, 0)) n;

create view monitoring.notice_load_v with (security_invoker = true) as
  select n.state, count(*) as notices from monitoring.notice n where n.state <> 'sent' group by 1;

grant select (task, binding_scope, binding_seq, echoed_digest, code) on serving.attempt to radfleet_monitor;
grant select (run_at) on registry.job to radfleet_monitor;
grant select (created_at) on serving.outbox to radfleet_monitor;
grant select on monitoring.clinic_load_v, monitoring.lane_load_v, monitoring.turnaround_24h_v, monitoring.answers_24h_v,
  monitoring.promotion_load_v, monitoring.promotion_v, monitoring.review_load_v, monitoring.dice_load_v, monitoring.follower_v,
  monitoring.notice_load_v to radfleet_monitor;
