-- Harm: which studies are read is drawn by chance before anybody reads them; what a recalibrated answer would score stands
-- with each review; a verdict that says hold asks registry to stop delivery.

-- A contract may be for one version alone. Without one it is for every version that answers the task.
alter table monitoring.contract add column digest text references registry.model_version;

-- How often each of these may happen, tolerance included: beyond it the same bets speak as for Dice.
alter table monitoring.policy
  add column reject_max real not null default 0.10 check (reject_max > 0 and reject_max < 1),
  add column edit_max real not null default 0.90 check (edit_max > 0 and edit_max < 1),
  add column failure_max real not null default 0.10 check (failure_max > 0 and failure_max < 1),
  add column late_max real not null default 0.10 check (late_max > 0 and late_max < 1),
  add column late_after interval not null default interval '1 hour' check (late_after > interval '0'),
  add column holds boolean not null default true;           -- whether a verdict that says hold stops delivery

-- One row a study that a stream counts, written when it is taken and so before it is read: with which chance it is
-- audited, and the random number that decided.
create table monitoring.audit(
  clinic_id uuid not null, stream_id uuid not null, study_id uuid not null,
  seq bigint not null,                                     -- the feature row of its answer
  chance double precision not null check (chance > 0 and chance <= 1),
  draw double precision not null check (draw >= 0 and draw < 1),
  chosen boolean generated always as (draw < chance) stored,
  why text not null check (why in ('routine', 'drift', 'harm', 'new_group')),
  blinded boolean not null,                                -- the reader draws before seeing our mask
  twice boolean not null,                                  -- a second reader reads it too
  drawn_at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, stream_id, study_id),
  foreign key (clinic_id, stream_id) references monitoring.stream(clinic_id, id));
create index audit_chosen on monitoring.audit(clinic_id, seq) where chosen;

-- A verdict that says hold asks once an epoch; who lifts the hold is not overruled by the same evidence.
create table monitoring.hold_request(
  clinic_id uuid not null, stream_id uuid not null, epoch int not null,
  reason text not null check (btrim(reason) <> ''),
  at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, stream_id, epoch),
  foreign key (clinic_id, stream_id, epoch) references monitoring.reference_epoch(clinic_id, stream_id, epoch));

do $$
declare t text;
begin
  foreach t in array array['audit', 'hold_request'] loop
    execute format('create trigger fixed before update or delete on monitoring.%I
                    for each row execute function registry.refuse_change()', t);
    execute format('create trigger kept before truncate on monitoring.%I execute function registry.refuse_change()', t);
    execute format('alter table monitoring.%I enable row level security', t);
    execute format('alter table monitoring.%I force row level security', t);
    execute format('create policy tenant on monitoring.%I to radfleet_app using (clinic_id = (select registry.current_clinic()))
                    with check (clinic_id = (select registry.current_clinic()))', t);
    execute format('create policy fleet on monitoring.%I for select to radfleet_system using (true)', t);
    execute format('create policy watch on monitoring.%I to radfleet_monitor using (true) with check (true)', t);
    execute format('grant select, insert on monitoring.%I to radfleet_monitor', t);
    execute format('grant select on monitoring.%I to radfleet_app, radfleet_system, radfleet_backup', t);
  end loop;
end $$;

-- The probabilities behind an answer, as steps around its threshold (serving/reviews/ladder.py). Never delivered.
alter table serving.result_object drop constraint result_object_kind_check;
alter table serving.result_object add constraint result_object_kind_check
  check (kind in ('seg', 'sr', 'preview', 'mask', 'image', 'chance'));

alter table serving.review
  add column recalibrated jsonb check (jsonb_typeof(recalibrated) = 'object'),  -- step of the threshold -> Dice it would give
  add column between_readers double precision check (between_readers between 0 and 1);  -- Dice with the first reader's mask
grant select (recalibrated, between_readers) on serving.review to radfleet_monitor, radfleet_system;

create or replace view serving.review_v with (security_invoker = true) as
  select r.seq, r.clinic_id, c.slug as clinic, r.id as review_id, r.study_id, r.revision, r.task, r.result_id, r.digest,
    v.name || '@' || v.version as model, r.scanner_id, f.seq as feature_seq, f.profile, r.decision, r.blinded, r.reader, r.minutes,
    r.dice, r.delivered_ml, r.corrected_ml, r.mask_path is not null as has_mask, r.at, r.recalibrated, r.between_readers
  from serving.review r join registry.clinic c on c.id = r.clinic_id join registry.model_version v using (digest)
  left join serving.feature f on f.clinic_id = r.clinic_id and f.study_id = r.study_id and f.revision = r.revision and f.task = r.task
  where r.withdrawn_at is null;

-- The studies that were drawn, and how many readers each still needs. A review counts from the draw on.
create view monitoring.audit_v with (security_invoker = true) as
  select a.clinic_id, c.slug as clinic, a.stream_id, a.study_id, a.seq, s.task, s.sequence, s.digest,
    v.name || '@' || v.version as model, a.chance, a.draw, a.why, a.blinded, a.twice, a.drawn_at,
    n.readers, greatest(1 + a.twice::int - n.readers, 0) as readers_due
  from monitoring.audit a join monitoring.stream s on s.clinic_id = a.clinic_id and s.id = a.stream_id
  join registry.clinic c on c.id = a.clinic_id join registry.model_version v on v.digest = s.digest
  cross join lateral (select count(*)::int as readers from serving.review r where r.clinic_id = a.clinic_id
    and r.study_id = a.study_id and r.task = s.task and r.digest = s.digest and r.withdrawn_at is null
    and r.at >= a.drawn_at and (r.blinded or not a.blinded)) n
  where a.chosen;
grant select on monitoring.audit_v to radfleet_monitor, radfleet_system, radfleet_app;

-- What registry reads to stop delivery.
create view monitoring.hold_request_v with (security_invoker = true) as
  select q.clinic_id, c.slug as clinic, q.stream_id, q.epoch, s.task, s.digest, q.reason, q.at
  from monitoring.hold_request q join monitoring.stream s on s.clinic_id = q.clinic_id and s.id = q.stream_id
  join registry.clinic c on c.id = q.clinic_id;
grant select on monitoring.hold_request_v to radfleet_monitor, radfleet_system;

-- A hold may stand on the answers of one version at one clinic: what harms there may help elsewhere.
alter table registry.hold drop constraint hold_kind_check;
alter table registry.hold add constraint hold_kind_check check (kind in ('clinic', 'scanner', 'version', 'answers'));
alter table registry.hold add column request text;          -- the verdict that asked for it, so that it is obeyed once
create unique index hold_request on registry.hold(clinic_id, request) where request is not null;
