-- A clinic that said it is closed is not silent: closed time is not counted before somebody has to ask.
create function registry.closed_since(clinic uuid, since timestamptz) returns interval language sql stable as $$
  select coalesce(sum(least(now(), (d.day + 1)::timestamp at time zone 'UTC')
    - greatest(since, d.day::timestamp at time zone 'UTC')), interval '0')
  from (select distinct generate_series(greatest(k.first_day, (since at time zone 'UTC')::date),
      least(k.last_day, (now() at time zone 'UTC')::date), interval '1 day')::date as day
    from registry.closure k where k.clinic_id = clinic and k.withdraws is null and not exists
      (select from registry.closure w where w.clinic_id = k.clinic_id and w.withdraws = k.number)) d
$$;
grant execute on function registry.closed_since(uuid, timestamptz)
  to radfleet_app, radfleet_system, radfleet_monitor, radfleet_backup;

create or replace view monitoring.stream_v with (security_invoker = true) as
  select s.clinic_id, c.slug as clinic, s.id as stream_id, s.task, s.sequence, s.digest, v.name || '@' || v.version as model,
    case
      when not b.bound then 'superseded'
      when f.open_flags > 0 then 'flagged'                 -- before silence: a clinic that stops sending is not cured
      when h.silent then 'silent'
      when t.watching then 'watch'
      when t.facts ->> 'phase' = 'collecting' then 'collecting'
      else 'quiet' end as state,
    t.n, t.ranked, t.statistic, t.threshold, t.epoch, e.cause as epoch_cause, e.at as epoch_at, e.promotion_id,
    t.facts -> 'groups' as scanner_groups, t.facts -> 'watched' as watched, t.facts -> 'unwatched' as unwatched,
    t.facts -> 'missing' as missing, t.flagged_seq, t.since_seq,
    (select o.at from monitoring.observation o where o.clinic_id = s.clinic_id and o.stream_id = s.id and o.seq = t.since_seq) as since_at,
    t.seq, t.last_at, coalesce(p.silent_after, interval '3 days') as silent_after,
    h.silent, f.open_flags
  from monitoring.stream s join registry.clinic c on c.id = s.clinic_id join registry.model_version v using (digest)
  join monitoring.stream_state t on t.clinic_id = s.clinic_id and t.stream_id = s.id
  join monitoring.reference_epoch e on e.clinic_id = s.clinic_id and e.stream_id = s.id and e.epoch = t.epoch
  cross join lateral (select exists (select from registry.binding b where b.clinic_id = s.clinic_id and b.task = s.task
    and b.digest = s.digest and b.role = 'active' and upper_inf(b.valid)) as bound) b
  cross join lateral (select count(*) as open_flags from monitoring.flag f where f.clinic_id = s.clinic_id
    and f.stream_id = s.id and f.state <> 'resolved') f
  left join lateral (select q.silent_after from monitoring.policy q where q.clinic_id = s.clinic_id
    order by q.version desc limit 1) p on true
  cross join lateral (select case when t.last_at < now() - coalesce(p.silent_after, interval '3 days')
    then t.last_at < now() - coalesce(p.silent_after, interval '3 days') - registry.closed_since(s.clinic_id, t.last_at)
    else false end as silent) h
  union all
  select b.clinic_id, c.slug, null, b.task, null, b.digest, v.name || '@' || v.version, 'no study yet',
    0, 0, 0, null, null, null, null, null, '[]', '[]', '{}', '{}', null, null, null, null, null,
    coalesce(p.silent_after, interval '3 days'), true, 0
  from (select distinct clinic_id, task, digest from registry.binding where role = 'active' and upper_inf(valid)) b
  join registry.clinic c on c.id = b.clinic_id join registry.model_version v using (digest)
  left join lateral (select q.silent_after from monitoring.policy q where q.clinic_id = b.clinic_id
    order by q.version desc limit 1) p on true
  where not exists (select from monitoring.stream s where s.clinic_id = b.clinic_id and s.task = b.task and s.digest = b.digest);

create or replace view monitoring.clinic_load_v with (security_invoker = true) as
  select c.id as clinic_id, c.slug as clinic, c.state,
    u.receiving, u.oldest_deadline, w.ready, w.running, e.done_24h, e.rejected_24h, e.dead_24h, k.stuck, k.stuck_since,
    h.last_heard_at, coalesce(p.silent_after, interval '3 days') + registry.closed_since(c.id, h.last_heard_at) as silent_after,
    o.undelivered, o.delivery_failed, o.oldest_undelivered, d.delivered_24h, m.mismatches, r.misbound_24h, d.superseded_24h
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
  cross join lateral (select case when b.since is not null then greatest(l.last_at, b.since) end as last_heard_at) h
  cross join lateral (select count(*) filter (where x.state <> 'failed') as undelivered,
      count(*) filter (where x.state = 'failed') as delivery_failed,
      min(x.created_at) filter (where x.state <> 'failed') as oldest_undelivered
    from serving.outbox x where x.clinic_id = c.id and x.state in ('ready', 'leased', 'failed')) o
  cross join lateral (select count(*) filter (where x.state = 'delivered') as delivered_24h,
      count(*) filter (where x.state = 'superseded') as superseded_24h
    from serving.outbox x where x.clinic_id = c.id and x.finished_at > now() - interval '24 hours') d
  cross join lateral (select count(*) as mismatches from serving.attempt a
    where a.clinic_id = c.id and (a.code = 'engine.identity_mismatch' or a.echoed_digest <> a.digest)) m
  cross join lateral (select count(*) as misbound_24h from serving.result t left join registry.binding g
      on g.clinic_id = t.clinic_id and g.task = t.task and g.scope = t.binding_scope and g.seq = t.binding_seq and g.role = 'active'
    where t.clinic_id = c.id and t.created_at > now() - interval '24 hours' and t.digest is distinct from g.digest) r;
