-- What a clinic's own report says of a study, read from its text by rules or coded by the clinic. The text never comes
-- here (promise P9). Descriptive: no gate and no verdict reads it.
create table serving.narrative(
  clinic_id uuid not null, study_id uuid not null, task text not null,
  number int not null check (number > 0),                  -- statements of one study and task; the latest counts
  says text not null check (says in ('present', 'absent', 'unclear')),
  rules text not null check (rules <> ''),                 -- which rules read it; 'coded': the clinic said it without a text
  text_sha256 bytea check (octet_length(text_sha256) = 32),   -- of study and text: tells a report sent twice, links no two studies
  stated_by text not null check (btrim(stated_by) <> ''),
  at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, study_id, task, number),
  check ((rules = 'coded') = (text_sha256 is null)), check (rules <> 'coded' or says <> 'unclear'),
  foreign key (clinic_id, study_id) references serving.study(clinic_id, id));
alter table serving.narrative enable row level security;
alter table serving.narrative force row level security;
create policy tenant on serving.narrative to radfleet_app using (clinic_id = (select registry.current_clinic()))
  with check (clinic_id = (select registry.current_clinic()));
create policy fleet on serving.narrative for select to radfleet_system using (true);
create policy watch on serving.narrative for select to radfleet_monitor using (true);
create trigger fixed before update or delete on serving.narrative for each row execute function registry.refuse_change();
create trigger kept before truncate on serving.narrative execute function registry.refuse_change();
grant select, insert on serving.narrative to radfleet_app;
grant select (clinic_id, study_id, task, number, says, rules, at) on serving.narrative to radfleet_monitor;
grant select on serving.narrative to radfleet_backup;

-- The latest statement of each study and task beside our latest answer. `ours`: whether a label of the pathological kind
-- (SNOMED CT 49755003, see serving/results/findings.py) has a counted lesion; null where a count was withheld or is missing.
create view serving.concordance_v with (security_invoker = true) as
  select n.clinic_id, c.slug as clinic, n.study_id, n.task, r.digest, n.says, n.rules, l.ours, n.at, s.last_at
  from serving.narrative n join registry.clinic c on c.id = n.clinic_id
  join serving.study s on s.clinic_id = n.clinic_id and s.id = n.study_id
  join lateral (select q.digest, q.findings from serving.result q where q.clinic_id = n.clinic_id and q.study_id = n.study_id
    and q.task = n.task order by q.revision desc limit 1) r on true
  left join lateral (select case when bool_and(jsonb_typeof(f -> 'count') = 'number')
      then bool_or(case when jsonb_typeof(f -> 'count') = 'number' then (f ->> 'count')::numeric > 0 end) end as ours
    from jsonb_array_elements(case when jsonb_typeof(r.findings -> 'findings') = 'array' then r.findings -> 'findings' end) f
    where f #>> '{category,0}' = '49755003') l on true
  where not exists (select from serving.narrative k where k.clinic_id = n.clinic_id and k.study_id = n.study_id
    and k.task = n.task and k.number > n.number);
grant select on serving.concordance_v to radfleet_app, radfleet_monitor;
