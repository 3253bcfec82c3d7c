-- What experts said of answers, what became of each study, who scans with what, and the reports that people open.

-- An expert's review of one answer. A blinded reader drew a mask before seeing ours; only that says how good ours is.
create table serving.review(
  clinic_id uuid not null, id uuid not null default registry.uuid7(),
  seq bigint generated always as identity,                 -- the order in which monitoring reads
  study_id uuid not null, revision int not null, task text not null, result_id uuid not null,
  digest text not null references registry.model_version,  -- the version that made the answer
  scanner_id uuid,
  decision text not null check (decision in ('accept', 'edit', 'reject')),
  blinded boolean not null default false,
  reader text not null check (btrim(reader) <> ''),
  minutes real check (minutes > 0 and minutes <= 600),
  note text not null default '' check (length(note) <= 200),
  dice double precision check (dice between 0 and 1),      -- delivered against corrected mask, mean over labels
  delivered_ml double precision check (delivered_ml >= 0), corrected_ml double precision check (corrected_ml >= 0),
  mask_kind text check (mask_kind in ('seg', 'nifti')),    -- as it came; it is kept as labels on the study's own grid
  mask_path text, mask_size bigint, mask_sha256 bytea check (octet_length(mask_sha256) = 32),
  at timestamptz not null default clock_timestamp(),
  withdrawn_at timestamptz, withdrawn_by text, withdrawn_reason text,
  primary key (clinic_id, id), unique (clinic_id, seq),
  check (num_nulls(dice, delivered_ml, corrected_ml, mask_kind, mask_path, mask_size, mask_sha256) in (0, 7)),
  check (mask_path is not null or (decision <> 'edit' and not blinded)),
  check (num_nulls(withdrawn_at, withdrawn_by, withdrawn_reason) in (0, 3)),
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id),
  foreign key (clinic_id, scanner_id) references registry.scanner(clinic_id, id));
-- The review is of the very answer that it names: its study, revision, task and version.
alter table serving.result add unique (clinic_id, id, study_id, revision, task, digest);
alter table serving.review add foreign key (clinic_id, result_id, study_id, revision, task, digest)
  references serving.result(clinic_id, id, study_id, revision, task, digest);
-- One reader counts once for an answer; a review that was wrong is withdrawn first.
create unique index review_once on serving.review(clinic_id, result_id, reader) where withdrawn_at is null;
create index review_path on serving.review(clinic_id, mask_path);

create function serving.guard_review() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and old.withdrawn_at is null and new.withdrawn_at is not null
      and to_jsonb(new) - array['withdrawn_at', 'withdrawn_by', 'withdrawn_reason']
        is not distinct from to_jsonb(old) - array['withdrawn_at', 'withdrawn_by', 'withdrawn_reason'] then
    return new;
  end if;
  raise exception 'a review is never changed or removed, only withdrawn' using errcode = '42501';
end $$;
create trigger review_fixed before update or delete on serving.review
  for each row execute function serving.guard_review();
create trigger review_kept before truncate on serving.review execute function registry.refuse_change();

-- A report as a person saw it: compressed, named by the sha256 of its HTML, never changed.
create table monitoring.report(
  clinic_id uuid not null references registry.clinic, id uuid not null default registry.uuid7(),
  kind text not null check (kind in ('flag', 'onboarding', 'vendor', 'month')),
  flag_id bigint, stream_id uuid,
  digest text not null check (digest ~ '^sha256:[0-9a-f]{64}$'),
  html bytea not null, size bigint not null check (size > 0),   -- gzip; size is of the HTML itself
  rows_digest text not null check (rows_digest ~ '^sha256:[0-9a-f]{64}$'),   -- of the rows that it was made of
  reference_rows int not null check (reference_rows > 0), current_rows int not null check (current_rows > 0),
  methods jsonb not null,                                  -- [{"column", "method", "threshold"}]
  opinion jsonb not null,                                  -- what Evidently thinks; it raises no flag
  library text not null,                                   -- such as "evidently 0.7.23"
  at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, id), unique (clinic_id, digest),
  check ((kind = 'flag') = (flag_id is not null)));
create unique index report_flag on monitoring.report(clinic_id, flag_id);   -- a flag's evidence is frozen once
create trigger report_fixed before update or delete on monitoring.report
  for each row execute function registry.refuse_change();
create trigger report_kept before truncate on monitoring.report execute function registry.refuse_change();

do $$
declare t text;
begin
  foreach t in array array['serving.review', 'monitoring.report'] loop
    execute format('alter table %s enable row level security', t);
    execute format('alter table %s force row level security', t);
    execute format('create policy tenant on %s to radfleet_app using (clinic_id = (select registry.current_clinic()))
                    with check (clinic_id = (select registry.current_clinic()))', t);
    execute format('create policy fleet on %s for select to radfleet_system using (true)', t);
  end loop;
end $$;
create policy watch on serving.review for select to radfleet_monitor using (true);
create policy watch on monitoring.report to radfleet_monitor using (true) with check (true);
grant select, insert, update (withdrawn_at, withdrawn_by, withdrawn_reason) on serving.review to radfleet_app;
grant select, insert on monitoring.report to radfleet_monitor;
grant select on serving.review, monitoring.report to radfleet_backup;

-- Reviews that count, with the feature row of the same answer. The note stays with the clinic.
create view serving.review_v with (security_invoker = true) as
  select r.seq, r.clinic_id, c.slug as clinic, r.id as review_id, r.study_id, r.revision, r.task, r.result_id, r.digest,
    v.name || '@' || v.version as model, r.scanner_id, f.seq as feature_seq, f.profile, r.decision, r.blinded, r.reader, r.minutes,
    r.dice, r.delivered_ml, r.corrected_ml, r.mask_path is not null as has_mask, r.at
  from serving.review r join registry.clinic c on c.id = r.clinic_id join registry.model_version v using (digest)
  left join serving.feature f on f.clinic_id = r.clinic_id and f.study_id = r.study_id and f.revision = r.revision and f.task = r.task
  where r.withdrawn_at is null;

-- What became of each task of each study's newest revision; a study that was refused before any task has one row without.
create view serving.outcome_v with (security_invoker = true) as
  select s.clinic_id, c.slug as clinic, s.id as study_id, s.revision, j.payload ->> 'task' as task,
    coalesce(r.digest, a.digest) as digest, coalesce(r.scanner_id, x.scanner_id) as scanner_id, f.seq as feature_seq, f.profile,
    coalesce(j.state, s.state) as state,
    case when coalesce(j.state, s.state) in ('rejected', 'dead') then coalesce(j.last_error, s.code) end as code,
    s.first_at, s.last_at, r.created_at as answered_at, o.delivered_at, coalesce(o.waiting, 0) as waiting,
    coalesce(o.failed, 0) as delivery_failed
  from serving.study s join registry.clinic c on c.id = s.clinic_id
  left join registry.job j on j.clinic_id = s.clinic_id and j.study_id = s.id and j.revision = s.revision and j.kind = 'infer'
  left join serving.result r on r.clinic_id = j.clinic_id and r.study_id = s.id and r.revision = s.revision
    and r.task = j.payload ->> 'task'
  left join serving.feature f on f.clinic_id = r.clinic_id and f.study_id = r.study_id and f.revision = r.revision and f.task = r.task
  left join lateral (select t.digest from serving.attempt t where t.clinic_id = j.clinic_id and t.job_id = j.id
    order by t.started_at desc limit 1) a on true
  left join lateral (select e.scanner_id from serving.series e where e.clinic_id = s.clinic_id and e.study_id = s.id
    and e.scanner_id is not null group by e.scanner_id order by count(*) desc, e.scanner_id limit 1) x on true
  left join lateral (select case when count(*) filter (where b.state <> 'delivered') = 0 then max(b.finished_at) end as delivered_at,
      count(*) filter (where b.state in ('ready', 'leased')) as waiting, count(*) filter (where b.state = 'failed') as failed
    from serving.outbox b where b.clinic_id = j.clinic_id and b.job_id = j.id) o on true
  where s.state <> 'past';
create index attempt_job on serving.attempt(clinic_id, job_id);
create index outbox_job on serving.outbox(clinic_id, job_id);

-- Who scanned with what, from when to when, as the headers of answered studies said.
create view serving.acquisition_v with (security_invoker = true) as
  select f.clinic_id, c.slug as clinic, f.scanner_id, f.profile ->> 'vendor' as vendor, f.profile ->> 'model' as model,
    f.profile ->> 'software' as software, f.profile ->> 'software_major' as software_major,
    (f.profile ->> 'field_t')::real as field_t, count(distinct f.study_id) as studies,
    min(f.seq) as first_seq, max(f.seq) as last_seq, min(f.at) as first_at, max(f.at) as last_at
  from serving.feature f join registry.clinic c on c.id = f.clinic_id
  group by f.clinic_id, c.slug, f.scanner_id, 4, 5, 6, 7, 8;

-- Reports without their bytes.
create view monitoring.report_v with (security_invoker = true) as
  select p.clinic_id, c.slug as clinic, p.id as report_id, p.kind, p.flag_id, p.stream_id, p.digest, p.size, p.rows_digest,
    p.reference_rows, p.current_rows, p.methods, p.opinion, p.library, p.at
  from monitoring.report p join registry.clinic c on c.id = p.clinic_id;

grant select on serving.review_v to radfleet_app;
grant select on serving.review_v, serving.outcome_v, serving.acquisition_v, monitoring.report_v to radfleet_monitor;
grant select (clinic_id, seq, id, study_id, revision, task, result_id, digest, scanner_id, decision, blinded, reader, minutes,
  dice, delivered_ml, corrected_ml, mask_path, at, withdrawn_at) on serving.review to radfleet_monitor, radfleet_system;
grant select (clinic_id, study_id, scanner_id) on serving.series to radfleet_monitor;
grant select (clinic_id, job_id, digest, started_at) on serving.attempt to radfleet_monitor;
grant select (digest, scanner_id, created_at) on serving.result to radfleet_monitor;
grant select (id, kind, payload, last_error) on registry.job to radfleet_monitor;
grant select (job_id, finished_at) on serving.outbox to radfleet_monitor;
