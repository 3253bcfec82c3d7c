-- What an archive did not take of an answer is not sent any more once a newer answer to the same study is there: the
-- older one would arrive after it. It is counted and shown, and neither waits nor is failed.
alter table serving.outbox drop constraint outbox_state_check;
alter table serving.outbox add constraint outbox_state_check
  check (state in ('ready', 'leased', 'delivered', 'failed', 'superseded'));
drop index serving.outbox_undelivered;
create index outbox_undelivered on serving.outbox(clinic_id, study_id) where state in ('ready', 'leased', 'failed');

create or replace view serving.study_v with (security_invoker = true) as
  select s.clinic_id, c.slug as clinic, s.id as study_id, s.revision, s.state, s.lane, s.code, s.first_at, s.last_at, s.finished_at,
    (select count(*) from serving.instance i where i.clinic_id = s.clinic_id and i.study_id = s.id) as instances,
    o.delivered, o.to_deliver, o.superseded
  from serving.study s join registry.clinic c on c.id = s.clinic_id
  cross join lateral (select count(*) filter (where x.state = 'delivered') as delivered,
      count(*) filter (where x.state <> 'superseded') as to_deliver, count(*) filter (where x.state = 'superseded') as superseded
    from serving.outbox x where x.clinic_id = s.clinic_id and x.study_id = s.id) o;
create index outbox_study on serving.outbox(clinic_id, study_id);

create or replace view serving.delivery_v with (security_invoker = true) as
  select o.clinic_id, o.study_id, o.id, d.name as destination, d.kind as way, r.kind as object, o.state, o.tries, o.last_code,
    o.next_at, o.finished_at, j.revision
  from serving.outbox o join serving.destination d on d.clinic_id = o.clinic_id and d.id = o.destination_id
  join serving.result_object r on r.clinic_id = o.clinic_id and r.id = o.result_object_id
  join registry.job j on j.clinic_id = o.clinic_id and j.id = o.job_id;

create or replace view monitoring.clinic_load_v with (security_invoker = true) as
  select c.id as clinic_id, c.slug as clinic, c.state,
    u.receiving, u.oldest_deadline, w.ready, w.running, e.done_24h, e.rejected_24h, e.dead_24h, k.stuck, k.stuck_since,
    case when b.since is not null then greatest(l.last_at, b.since) end as last_heard_at,
    coalesce(p.silent_after, interval '3 days') as silent_after,
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
