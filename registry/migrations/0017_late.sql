-- What opens a study again; the rules are those of 0004 otherwise.
-- An archive that moves images to another study keeps their SOPInstanceUIDs: that study is complete only with them.
-- No model reads anything but MR: a report, segmentation or picture that comes late changes no answer. Archives that pass
-- on what they get send our own results back, and each would make new ones for ever.
create or replace function serving.receive(p_objects json)
  returns table(outcome text, its_study uuid, its_revision int, its_version int) language plpgsql as $$
declare
  v_clinic uuid := registry.current_clinic();
  v_quiet interval;
  v_late timestamptz := now() + interval '30 min';
  v_missing boolean; v_read boolean;
  o record; s record; v_series uuid;
begin
  select make_interval(secs => quiet_s) into v_quiet from registry.clinic where id = v_clinic;
  for o in select * from json_to_recordset(p_objects) as x("StudyInstanceUID" text, "SeriesInstanceUID" text,
      "SOPInstanceUID" text, "SOPClassUID" text, "Modality" text, path text, size bigint, sha256 bytea, patient_key bytea,
      scanner_id uuid, source text, lane text) loop
    -- The row lock: from here to the commit no sweep can close the study and no other arrival can slip past the close.
    select id, revision, state into s from serving.study
      where clinic_id = v_clinic and "StudyInstanceUID" = o."StudyInstanceUID" for update;
    if not found then
      insert into serving.study(clinic_id, "StudyInstanceUID", deadline, hard_deadline, lane)
        values (v_clinic, o."StudyInstanceUID", now() + v_quiet, v_late, o.lane)
        on conflict do nothing returning id, revision, state into s;
      if found then
        insert into serving.step(clinic_id, study_id, revision, step, detail)
          values (v_clinic, s.id, 1, 'received', jsonb_build_object('source', o.source));
      else  -- somebody else began it at the same moment
        select id, revision, state into s from serving.study
          where clinic_id = v_clinic and "StudyInstanceUID" = o."StudyInstanceUID" for update;
      end if;
    end if;
    select id into v_series from serving.series
      where clinic_id = v_clinic and study_id = s.id and "SeriesInstanceUID" = o."SeriesInstanceUID";
    if not found then
      insert into serving.series(clinic_id, study_id, "SeriesInstanceUID", "Modality", scanner_id)
        values (v_clinic, s.id, o."SeriesInstanceUID", o."Modality", o.scanner_id) returning id into v_series;
    end if;
    -- A late image opens a new revision.
    v_read := s.state = 'receiving' or o."Modality" in ('MR', '');
    its_study := s.id;
    its_revision := s.revision + case when v_read and s.state <> 'receiving' then 1 else 0 end;
    its_version := 1;
    -- The unique key says whether it is new. Looking first would cost a search for each, and a session that planned
    -- that search while the table was empty would keep reading all of a clinic's rows.
    insert into serving.instance(clinic_id, study_id, series_id, "SOPInstanceUID", "SOPClassUID", version, path, size,
        sha256, patient_key, source, revision)
      values (v_clinic, s.id, v_series, o."SOPInstanceUID", o."SOPClassUID", 1, o.path, o.size, o.sha256,
        o.patient_key, o.source, its_revision)
      on conflict do nothing;
    outcome := 'new';
    v_missing := found;
    if not found then
      select i.study_id, i.revision, i.version into its_study, its_revision, its_version from serving.instance i
        where i.clinic_id = v_clinic and i."SOPInstanceUID" = o."SOPInstanceUID" and i.sha256 = o.sha256;
      outcome := 'duplicate';
      if not found then
        outcome := 'conflict';
        select max(i.version) + 1, not bool_or(i.study_id = s.id) into its_version, v_missing from serving.instance i
          where i.clinic_id = v_clinic and i."SOPInstanceUID" = o."SOPInstanceUID";
        its_study := s.id;
        its_revision := s.revision + case when v_missing and v_read and s.state <> 'receiving' then 1 else 0 end;
        insert into serving.instance(clinic_id, study_id, series_id, "SOPInstanceUID", "SOPClassUID", version, path, size,
            sha256, patient_key, source, revision)
          values (v_clinic, s.id, v_series, o."SOPInstanceUID", o."SOPClassUID", its_version, o.path, o.size, o.sha256,
            o.patient_key, o.source, its_revision);
        insert into serving.step(clinic_id, study_id, revision, step, detail)
          values (v_clinic, s.id, its_revision, 'conflict', jsonb_build_object('version', its_version));
      end if;
    end if;
    if v_missing and v_read then
      -- It moves the deadline, never past the hard one.
      update serving.study t set last_at = now(), revision = its_revision,
        hard_deadline = case when s.state = 'receiving' then t.hard_deadline else v_late end,
        deadline = least(now() + v_quiet, case when s.state = 'receiving' then t.hard_deadline else v_late end),
        state = 'receiving', finished_at = null, code = null, cure = null
        where t.clinic_id = v_clinic and t.id = s.id;
      if s.state <> 'receiving' then
        insert into serving.step(clinic_id, study_id, revision, step, detail)
          values (v_clinic, s.id, its_revision, 'reopened', jsonb_build_object('reason', 'late instance'));
      end if;
    end if;
    return next;
  end loop;
end $$;
