-- The promotion line (promise P7): what was measured, by which margins it is judged, who proposed it, who approved it.

-- Margins are fixed before anything is trained: a version is judged by the newest policy older than itself.
create table registry.policy(
  version int primary key check (version > 0),
  metric text not null check (metric ~ '^[a-z][a-z0-9_]{0,40}$'),
  -- Below 6 people no result, however good, is rarer by chance than 1 in 20.
  clinic_people_min int not null check (clinic_people_min between 6 and 10000),
  person_loss_max double precision not null check (person_loss_max between 0 and 1),
  global_people_min int not null check (global_people_min between 6 and 10000),
  global_loss_max double precision not null check (global_loss_max between 0 and 1),
  set_by text not null, reason text not null check (btrim(reason) <> ''),
  set_at timestamptz not null default clock_timestamp());
insert into registry.policy values (1, 'dice', 8, 0.10, 10, 0.02, 'radfleet', 'the first margins', '2026-01-01T00:00:00Z');

-- Scores of people, one row a version and data set. Without a clinic: the fleet's global set.
create table registry.evidence(
  id bigint generated always as identity primary key,
  clinic_id uuid references registry.clinic,
  digest text not null references registry.model_version,
  metric text not null, dataset text not null,
  people jsonb not null check (jsonb_typeof(people) = 'object' and people <> '{}'),
  source_digest text not null check (source_digest ~ '^sha256:[0-9a-f]{64}$'),
  added_by text not null,
  added_at timestamptz not null default clock_timestamp(),
  unique nulls not distinct (clinic_id, digest, metric, dataset, source_digest));

do $$
declare t text;
begin
  foreach t in array array['policy', 'evidence'] loop
    execute format('create trigger %I before update or delete on registry.%I
      for each row execute function registry.refuse_change()', t || '_fixed', t);
    execute format('create trigger %I before truncate on registry.%I
      execute function registry.refuse_change()', t || '_kept', t);
  end loop;
end $$;

create table registry.promotion(
  id bigint generated always as identity primary key,
  clinic_id uuid not null references registry.clinic,
  task text not null,
  scope text not null check (scope ~ '^(\*|profile:.{1,64}|serial:.{1,64})$'),
  kind text not null check (kind in ('promote', 'rollback')),
  state text not null check (state in ('proposed', 'approved', 'active', 'withdrawn', 'stale')),
  digest text not null references registry.model_version,
  active_digest text references registry.model_version,     -- what answered there when it was decided
  expected_seq bigint not null check (expected_seq >= 0),
  restored_seq bigint,                                      -- a rollback: the binding that it brings back
  policy_version int references registry.policy,
  proposed_by text not null, reason text not null check (btrim(reason) <> ''),
  approved_by text references registry.account(name), approval text not null default '',
  gates jsonb not null default '[]',                        -- as judged at the approval
  waived text[] not null default '{}',
  proposed_at timestamptz not null default clock_timestamp(), changed_at timestamptz not null default clock_timestamp(),
  unique (clinic_id, task, scope, digest, id),
  constraint promotion_two_people check (approved_by <> proposed_by),
  constraint promotion_approved check (kind = 'rollback' or state not in ('approved', 'active') or approved_by is not null),
  constraint promotion_waived check (waived = '{}' or (approved_by is not null and btrim(approval) <> '')),
  check (kind = 'rollback' or policy_version is not null),
  check ((kind = 'rollback') = (restored_seq is not null)),
  check (kind = 'promote' or state = 'active'));
create unique index promotion_open on registry.promotion(clinic_id, task, scope) where state in ('proposed', 'approved');

-- A binding that a promotion made is of that promotion's clinic, task, scope and version, and no other's.
alter table registry.binding add column promotion_id bigint,
  add constraint binding_promotion foreign key (clinic_id, task, scope, digest, promotion_id)
    references registry.promotion(clinic_id, task, scope, digest, id),
  add unique (clinic_id, task, scope, seq, digest);
-- A rollback leads to a version that was bound here, or the row cannot be written.
alter table registry.promotion add constraint promotion_restored foreign key (clinic_id, task, scope, restored_seq, digest)
  references registry.binding(clinic_id, task, scope, seq, digest);

-- What was proposed and approved stays as it was; only the next state may be written.
create function registry.guard_promotion() returns trigger language plpgsql as $$
declare free text[] := array['state', 'changed_at'];
begin
  if tg_op in ('DELETE', 'TRUNCATE') then
    raise exception 'rows of promotion are never removed' using errcode = '42501';
  end if;
  if (old.state, new.state) = ('proposed', 'approved') then
    free := free || array['approved_by', 'approval', 'gates', 'waived'];
  elsif (old.state, new.state) not in (('proposed', 'withdrawn'), ('approved', 'withdrawn'),
      ('approved', 'active'), ('approved', 'stale')) then
    raise exception 'a promotion does not go from % to %', old.state, new.state using errcode = '42501';
  end if;
  if (to_jsonb(new) - free) is distinct from (to_jsonb(old) - free) then
    raise exception 'what was proposed and approved is never changed' using errcode = '42501';
  end if;
  return new;
end $$;
create trigger promotion_moves before update or delete on registry.promotion
  for each row execute function registry.guard_promotion();
create trigger promotion_kept before truncate on registry.promotion execute function registry.guard_promotion();

do $$
declare t text;
begin
  foreach t in array array['evidence', 'promotion'] loop
    execute format('alter table registry.%I enable row level security', t);
    execute format('alter table registry.%I force row level security', t);
    execute format('create policy tenant on registry.%I to radfleet_app using (clinic_id = (select registry.current_clinic()))
                    with check (clinic_id = (select registry.current_clinic()))', t);
    execute format('create policy fleet on registry.%I to radfleet_system using (true) with check (true)', t);
  end loop;
end $$;
grant select, insert on registry.policy, registry.evidence, registry.promotion to radfleet_system;
grant update (state, approved_by, approval, gates, waived, changed_at) on registry.promotion to radfleet_system;
grant select on registry.policy, registry.evidence, registry.promotion to radfleet_backup;
