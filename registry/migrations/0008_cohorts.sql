-- The cure: who a version was fine-tuned on and who judged it, frozen; and which clinic a local version was made for.

-- A person is on one side of the split of a clinic's task for ever: who was trained on never judges, in no later cohort.
create table serving.dataset_person(
  clinic_id uuid not null references registry.clinic,
  task text not null,
  person_key bytea not null,                 -- serving.study.patient_key: equality without the value
  split text not null check (split in ('train', 'evaluation')),
  since timestamptz not null default clock_timestamp(),
  primary key (clinic_id, task, person_key), unique (clinic_id, task, person_key, split));

create table serving.dataset_snapshot(
  clinic_id uuid not null references registry.clinic,
  id uuid not null default registry.uuid7(),
  task text not null,
  digest text not null check (digest ~ '^sha256:[0-9a-f]{64}$'),      -- of its items: studies, reviews, masks, sides
  people_train int not null check (people_train > 0),
  people_evaluation int not null check (people_evaluation > 0),
  studies int not null check (studies > 0),
  made_by text not null, made_at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, id), unique (clinic_id, task, digest), unique (clinic_id, id, task));

create table serving.dataset_item(
  clinic_id uuid not null, snapshot_id uuid not null, task text not null,
  study_id uuid not null, review_id uuid not null,
  person_key bytea not null, split text not null,
  primary key (clinic_id, snapshot_id, study_id),
  foreign key (clinic_id, snapshot_id, task) references serving.dataset_snapshot(clinic_id, id, task),
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id),
  foreign key (clinic_id, review_id) references serving.review(clinic_id, id),
  -- A person on both sides cannot be written.
  foreign key (clinic_id, task, person_key, split) references serving.dataset_person(clinic_id, task, person_key, split));

-- A version that was fine-tuned on one clinic's people answers that clinic alone.
create table registry.local_version(
  clinic_id uuid not null references registry.clinic,
  digest text not null references registry.model_version,
  parent text not null references registry.model_version,
  cohort text not null check (cohort ~ '^sha256:[0-9a-f]{64}$'),
  people_train int not null check (people_train > 0), people_evaluation int not null check (people_evaluation > 0),
  tier text not null check (tier ~ '^T[1-4]$'),
  made_by text not null, made_at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, digest), check (parent <> digest));

do $$
declare t text;
begin
  foreach t in array array['serving.dataset_person', 'serving.dataset_snapshot', 'serving.dataset_item',
      'registry.local_version'] loop
    execute format('create trigger fixed before update or delete on %s for each row execute function registry.refuse_change()', t);
    execute format('create trigger kept before truncate on %s execute function registry.refuse_change()', t);
    execute format('alter table %s enable row level security', t);
    execute format('alter table %s force row level security', t);
    execute format('create policy tenant on %s to radfleet_app using (clinic_id = (select registry.current_clinic()))
                    with check (clinic_id = (select registry.current_clinic()))', t);
    execute format('create policy fleet on %s to radfleet_system using (true) with check (true)', t);
    execute format('create policy watch on %s for select to radfleet_monitor using (true)', t);
    execute format('grant select on %s to radfleet_backup', t);
  end loop;
end $$;

-- Nobody binds a local version elsewhere, whatever program or person tries.
create function registry.guard_local_version() returns trigger language plpgsql as $$
begin
  if exists (select from registry.local_version l where l.digest = new.digest)
     and not exists (select from registry.local_version l where l.digest = new.digest and l.clinic_id = new.clinic_id) then
    raise exception 'a local version answers its own clinic alone' using errcode = '42501';
  end if;
  return new;
end $$;
create trigger binding_local before insert on registry.binding
  for each row execute function registry.guard_local_version();
grant execute on function registry.guard_local_version() to radfleet_app, radfleet_system, radfleet_monitor;

-- Counts alone: who the people are stays with serving.
create view serving.dataset_v with (security_invoker = true) as
  select s.clinic_id, c.slug as clinic, s.id as snapshot_id, s.task, s.digest, s.people_train, s.people_evaluation, s.studies,
    s.made_by, s.made_at
  from serving.dataset_snapshot s join registry.clinic c on c.id = s.clinic_id;
create view registry.local_version_v with (security_invoker = true) as
  select l.clinic_id, c.slug as clinic, l.digest, v.name || '@' || v.version as model, v.task, l.parent,
    w.name || '@' || w.version as parent_model, l.cohort, l.people_train, l.people_evaluation, l.tier, l.made_by, l.made_at
  from registry.local_version l join registry.clinic c on c.id = l.clinic_id
  join registry.model_version v on v.digest = l.digest join registry.model_version w on w.digest = l.parent;

grant select, insert on serving.dataset_person, serving.dataset_snapshot, serving.dataset_item to radfleet_app;
grant select on serving.dataset_snapshot to radfleet_system, radfleet_monitor;
grant select, insert on registry.local_version to radfleet_system;
grant select on registry.local_version to radfleet_monitor;
grant select on serving.dataset_v, registry.local_version_v to radfleet_system, radfleet_monitor;
