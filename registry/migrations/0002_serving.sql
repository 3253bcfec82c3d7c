-- Serving: what was received, what became of it, what was sent back.
create table serving.study(
  id uuid not null default registry.uuid7(),
  clinic_id uuid not null references registry.clinic,
  "StudyInstanceUID" text not null,
  patient_key bytea,                         -- HMAC of PatientID under the clinic's key: equality without the value
  revision int not null default 1,
  state text not null default 'receiving' check (state in ('receiving', 'ready', 'running', 'done', 'rejected', 'dead')),
  deadline timestamptz, hard_deadline timestamptz,
  lane text not null default 'routine' check (lane in ('stat', 'routine', 'shadow', 'backfill')),
  code text, cure text,
  first_at timestamptz not null default now(), last_at timestamptz not null default now(), finished_at timestamptz,
  primary key (clinic_id, id), unique (clinic_id, "StudyInstanceUID"),
  check ((state = 'receiving') = (deadline is not null)));
create index study_deadline on serving.study(deadline) where state = 'receiving';

create table serving.series(
  id uuid not null default registry.uuid7(), clinic_id uuid not null, study_id uuid not null,
  "SeriesInstanceUID" text not null, "Modality" text not null default '', scanner_id uuid,
  primary key (clinic_id, id), unique (clinic_id, study_id, "SeriesInstanceUID"),
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id),
  foreign key (clinic_id, scanner_id) references registry.scanner(clinic_id, id));

create table serving.instance(
  id uuid not null default registry.uuid7(), clinic_id uuid not null, study_id uuid not null, series_id uuid not null,
  "SOPInstanceUID" text not null, "SOPClassUID" text not null, version int not null default 1,
  path text not null, size bigint not null, sha256 bytea not null check (octet_length(sha256) = 32),
  patient_key bytea, source text not null, received_at timestamptz not null default now(),
  revision int not null,
  primary key (clinic_id, id), unique (clinic_id, "SOPInstanceUID", version), unique (clinic_id, "SOPInstanceUID", sha256),
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id),
  foreign key (clinic_id, series_id) references serving.series(clinic_id, id));
create index instance_study on serving.instance(clinic_id, study_id);
create unique index instance_path on serving.instance(clinic_id, path);

create table serving.step(                   -- the trace: one row a step, no patient data
  seq bigint generated always as identity primary key,
  clinic_id uuid not null, study_id uuid not null, revision int not null,
  at timestamptz not null default clock_timestamp(), step text not null, detail jsonb not null default '{}',
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id));
create index step_study on serving.step(clinic_id, study_id, seq);

create table serving.attempt(
  id uuid not null default registry.uuid7(), clinic_id uuid not null, job_id bigint not null, study_id uuid not null,
  revision int not null, fence bigint not null, task text not null, binding_scope text not null, binding_seq bigint not null,
  digest text not null references registry.model_version, echoed_digest text, device text,
  started_at timestamptz not null default clock_timestamp(), finished_at timestamptz, code text,
  primary key (clinic_id, id), unique (clinic_id, job_id, fence, task),
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id),
  foreign key (clinic_id, job_id) references registry.job(clinic_id, id));

create table serving.result(
  id uuid not null default registry.uuid7(), clinic_id uuid not null, study_id uuid not null, revision int not null,
  task text not null, job_id bigint not null, fence bigint not null, binding_scope text not null, binding_seq bigint not null,
  digest text not null references registry.model_version, scanner_id uuid, findings jsonb not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, id), unique (clinic_id, study_id, revision, task),
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id),
  foreign key (clinic_id, scanner_id) references registry.scanner(clinic_id, id),
  foreign key (clinic_id, job_id) references registry.job(clinic_id, id));

create table serving.result_object(
  id uuid not null default registry.uuid7(), clinic_id uuid not null, result_id uuid not null,
  kind text not null check (kind in ('seg', 'sr', 'preview', 'mask', 'image')),
  "SOPInstanceUID" text, "SOPClassUID" text, path text not null, size bigint not null, sha256 bytea not null,
  primary key (clinic_id, id), unique (clinic_id, result_id, kind),
  foreign key (clinic_id, result_id) references serving.result(clinic_id, id));

create table serving.feature(                -- what monitoring reads; seq is its cursor
  seq bigint generated always as identity primary key,
  clinic_id uuid not null, study_id uuid not null, revision int not null, task text not null, digest text not null,
  scanner_id uuid, profile jsonb not null, values jsonb not null, at timestamptz not null default clock_timestamp(),
  unique (clinic_id, study_id, revision, task),
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id));

create table serving.destination(
  id uuid not null default registry.uuid7(), clinic_id uuid not null references registry.clinic,
  name text not null, kind text not null check (kind in ('cstore', 'stow')),
  host text not null default '', port int not null default 0, ae_title text not null default '', url text not null default '',
  objects text[] not null default '{seg,sr,preview}' check (objects <@ array['seg', 'sr', 'preview']::text[]),
  active boolean not null default true, created_at timestamptz not null default now(),
  primary key (clinic_id, id), unique (clinic_id, name),
  check (kind <> 'cstore' or (host <> '' and port > 0 and ae_title <> '')), check (kind <> 'stow' or url <> ''));

create table serving.outbox(
  id bigint generated always as identity primary key,
  clinic_id uuid not null, job_id bigint not null, result_object_id uuid not null, destination_id uuid not null,
  study_id uuid not null, scanner_id uuid, digest text not null,
  state text not null default 'ready' check (state in ('ready', 'leased', 'delivered', 'failed')),
  fence bigint not null default 0, owner text, lease_until timestamptz, tries int not null default 0,
  next_at timestamptz not null default now(), created_at timestamptz not null default now(), finished_at timestamptz, last_code text,
  unique (clinic_id, job_id, destination_id, result_object_id),
  check ((state = 'leased') = (lease_until is not null)),
  -- P4: the composite keys make it impossible to address another clinic's destination or object.
  foreign key (clinic_id, destination_id) references serving.destination(clinic_id, id),
  foreign key (clinic_id, result_object_id) references serving.result_object(clinic_id, id),
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id),
  foreign key (clinic_id, job_id) references registry.job(clinic_id, id));
create index outbox_ready on serving.outbox(next_at, id) where state = 'ready';
create index outbox_lease on serving.outbox(lease_until) where state = 'leased';
