-- Days on which a clinic is closed, as a person says beforehand or afterwards: they are not counted, and the days that
-- were counted otherwise are counted again. What was said and what was counted stays as it was written.

-- One row a statement, numbered by clinic without gaps. A row that withdraws another one repeats its days.
create table registry.closure(
  clinic_id uuid not null references registry.clinic,
  number int not null check (number > 0),
  first_day date not null, last_day date not null,         -- both closed; days of UTC, as days are counted
  withdraws int check (withdraws < number),                -- the statement that was wrong
  reason text not null check (btrim(reason) <> ''),
  stated_by text not null, stated_at timestamptz not null default clock_timestamp(),
  primary key (clinic_id, number),
  constraint closure_withdrawn_once unique (clinic_id, withdraws),
  constraint closure_days check (last_day >= first_day and last_day - first_day < 60),
  foreign key (clinic_id, withdraws) references registry.closure(clinic_id, number));
alter table registry.closure enable row level security;
alter table registry.closure force row level security;
create policy tenant on registry.closure for select to radfleet_app using (clinic_id = (select registry.current_clinic()));
create policy fleet on registry.closure to radfleet_system using (true) with check (true);
create policy watch on registry.closure for select to radfleet_monitor using (true);
create trigger fixed before update or delete on registry.closure for each row execute function registry.refuse_change();
create trigger kept before truncate on registry.closure execute function registry.refuse_change();
grant select, insert on registry.closure to radfleet_system;
grant select on registry.closure to radfleet_app, radfleet_monitor, radfleet_backup;

-- Each closure with what became of it; `known` is the last number that speaks of it.
create view registry.closure_v with (security_invoker = true) as
  select k.clinic_id, c.slug as clinic, k.number, k.first_day, k.last_day, k.reason, k.stated_by, k.stated_at,
    w.number is null as stands, w.stated_by as withdrawn_by, w.stated_at as withdrawn_at, w.reason as withdrawn_reason,
    coalesce(w.number, k.number) as known
  from registry.closure k join registry.clinic c on c.id = k.clinic_id
  left join registry.closure w on w.clinic_id = k.clinic_id and w.withdraws = k.number
  where k.withdraws is null;
grant select on registry.closure_v to radfleet_system, radfleet_monitor, radfleet_app;

-- A day that is counted again is a further row of that day; the one with the highest turn is what is known.
alter table monitoring.day_count add column turn int not null default 1 check (turn > 0);
alter table monitoring.day_count add column closed boolean not null default false;
alter table monitoring.day_count add column closures int not null default 0;   -- how far the calendar was known
alter table monitoring.day_count drop constraint day_count_pkey;
alter table monitoring.day_count add primary key (clinic_id, day, turn);
create or replace view monitoring.day_count_v with (security_invoker = true) as
  select d.clinic_id, c.slug as clinic, d.day, d.studies, d.state, d.at, d.turn, d.closed, d.closures
  from monitoring.day_count d join registry.clinic c on c.id = d.clinic_id
  where not exists (select from monitoring.day_count n
    where n.clinic_id = d.clinic_id and n.day = d.day and n.turn > d.turn);
