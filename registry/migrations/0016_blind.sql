-- Which drawn studies are still to be read, and which answers nobody may see before they are. A review is of the newest
-- answer: of what another version has answered again since the draw there is nothing left to read.
create view monitoring.due_v with (security_invoker = true) as
  select a.* from monitoring.audit_v a
  where a.readers_due > 0 and a.digest = (select r.digest from serving.result r
    where r.clinic_id = a.clinic_id and r.study_id = a.study_id and r.task = a.task order by r.revision desc limit 1);
create view monitoring.blind_v with (security_invoker = true) as
  select distinct d.clinic_id, d.study_id, d.task from monitoring.due_v d where d.blinded;
grant select (clinic_id, study_id, task, digest, revision) on serving.result to radfleet_system;
grant select on monitoring.due_v, monitoring.blind_v to radfleet_monitor, radfleet_system, radfleet_app;
