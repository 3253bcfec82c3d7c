-- A change is told by each channel at most once: a row for each.
alter table monitoring.notice add column channel text not null default 'webhook' check (channel in ('webhook', 'email'));
alter table monitoring.notice alter column channel drop default;
alter table monitoring.notice drop constraint notice_pkey;
alter table monitoring.notice add primary key (clinic_id, flag_id, event_seq, channel);

-- Replaced, not changed: a view may only grow at its end, and what is counted apart must be grouped apart.
drop view monitoring.notice_load_v;
create view monitoring.notice_load_v with (security_invoker = true) as
  select n.channel, n.state, count(*) as notices from monitoring.notice n where n.state <> 'sent' group by 1, 2;
grant select on monitoring.notice_load_v to radfleet_monitor;
