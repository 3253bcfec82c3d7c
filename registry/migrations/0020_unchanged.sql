-- A late image that a task does not read leaves its answer as it is: which images were read stands with the answer, and
-- the newest revision of a study may have no answer of its own.
alter table serving.result add column input_sha256 bytea check (octet_length(input_sha256) = 32);

-- What became of each task of each study's newest revision. Where an earlier answer stands it is that one, and it is as
-- late as the finding that it stands.
create or replace view serving.outcome_v with (security_invoker = true) as
  select s.clinic_id, c.slug as clinic, s.id as study_id, s.revision, j.payload ->> 'task' as task,
    coalesce(r.digest, a.digest) as digest, coalesce(r.scanner_id, x.scanner_id) as scanner_id, f.seq as feature_seq, f.profile,
    coalesce(j.state, s.state) as state,
    case when coalesce(j.state, s.state) in ('rejected', 'dead') then coalesce(j.last_error, s.code) end as code,
    s.first_at, s.last_at,
    case when r.revision < s.revision then greatest(r.created_at, j.finished_at) else r.created_at end as answered_at,
    case when r.revision < s.revision and o.delivered_at is not null then greatest(o.delivered_at, j.finished_at)
      else o.delivered_at end as delivered_at, coalesce(o.waiting, 0) as waiting,
    coalesce(o.failed, 0) as delivery_failed
  from serving.study s join registry.clinic c on c.id = s.clinic_id
  left join registry.job j on j.clinic_id = s.clinic_id and j.study_id = s.id and j.revision = s.revision and j.kind = 'infer'
  left join lateral (select n.clinic_id, n.study_id, n.revision, n.task, n.job_id, n.digest, n.scanner_id, n.created_at
      from serving.result n where n.clinic_id = j.clinic_id and n.study_id = s.id and n.task = j.payload ->> 'task' and n.revision <= s.revision order by n.revision desc limit 1) r on j.state = 'done'
  left join serving.feature f on f.clinic_id = r.clinic_id and f.study_id = r.study_id and f.revision = r.revision and f.task = r.task
  left join lateral (select t.digest from serving.attempt t where t.clinic_id = j.clinic_id and t.job_id = j.id
    order by t.started_at desc limit 1) a on true
  left join lateral (select e.scanner_id from serving.series e where e.clinic_id = s.clinic_id and e.study_id = s.id
    and e.scanner_id is not null group by e.scanner_id order by count(*) desc, e.scanner_id limit 1) x on true
  left join lateral (select case when count(*) filter (where b.state <> 'delivered') = 0 then max(b.finished_at) end as delivered_at,
      count(*) filter (where b.state in ('ready', 'leased')) as waiting, count(*) filter (where b.state = 'failed') as failed
    from serving.outbox b where b.clinic_id = j.clinic_id and b.job_id = coalesce(r.job_id, j.id)) o on true
  where s.state <> 'past';
grant select (finished_at) on registry.job to radfleet_monitor;
grant select (job_id) on serving.result to radfleet_monitor;
