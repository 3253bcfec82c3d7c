"""A made-up fleet in an embedded PostgreSQL: every table that pages and /metrics read, filled to a fleet's size.

Each clinic has 2 scanners, 2 bound tasks with a stream each and one superseded stream; each study 2 answers of 20
features, 4 objects delivered, a job; 3 % are drawn for reading, half of those read. One clinic in twelve has an open
flag, one in fifty is silent, one in fifty has no study yet. Rows are written as the services write them, by the
superuser and without looking at foreign keys, because a million of them must be there in a minute; images have no rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from monitoring.vendors import vendors_store
from tests.kit.db import Server, migrated, running

DATABASE = "fleet"
FIRST, SECOND, BRAIN = ("sha256:" + letter * 64 for letter in "abc")
PER_DAY = 20

FILL = """
insert into registry.model_version(digest, name, version, task, runtime_class, model, card, created_by) values
  ('{first}', 'ms-lesion', '1.0.0', 'ms-lesion', 'cpu-small', '{{}}', '{{}}', 'bench'),
  ('{second}', 'ms-lesion', '1.1.0', 'ms-lesion', 'cpu-small', '{{}}', '{{}}', 'bench'),
  ('{brain}', 'brain-extraction', '1.1.0', 'brain-extraction', 'cpu-small', '{{}}', '{{}}', 'bench');
insert into registry.clinic(slug, name, state)
  select 'c' || lpad(n::text, 4, '0'), 'Clinic ' || n, 'active' from generate_series(1, {clinics}) n;
create table public.k as select id as clinic_id, row_number() over (order by slug)::int as n from registry.clinic;
insert into registry.scanner(clinic_id, vendor, model, serial, software)
  select clinic_id, (array['siemens', 'ge', 'philips'])[1 + (n + i) % 3], 'Model ' || i, n || '-' || i, 'V1'
  from public.k, generate_series(1, 2) i;
insert into registry.binding(clinic_id, task, seq, digest, valid, bound_by, reason)
  select clinic_id, 'ms-lesion', 1, '{first}', tstzrange(now() - interval '90 d', now() - interval '40 d'), 'anna',
    'first'
  from public.k union all
  select clinic_id, 'ms-lesion', 2, '{second}', tstzrange(now() - interval '40 d', null), 'anna', 'second'
  from public.k union all
  select clinic_id, 'brain-extraction', 1, '{brain}', tstzrange(now() - interval '90 d', null), 'anna', 'first'
  from public.k;
create table public.s as select row_number() over (order by i, n) as seq, clinic_id, n, i, registry.uuid7() as id,
    now() - (case when n % 50 = 7 then interval '5 d' else interval '0' end)
      - ({studies} - i) * interval '1 day' / {per_day} as at
  from public.k, generate_series(1, {studies}) i where n % 50 <> 9;
insert into serving.study(id, clinic_id, "StudyInstanceUID", state, first_at, last_at, finished_at)
  select id, clinic_id, '1.2.' || seq, case when i % 97 = 5 then 'rejected' else 'done' end, at, at + interval '90 s',
    at + interval '150 s' from public.s;
insert into registry.job(clinic_id, kind, dedup_key, study_id, revision, state, created_at, finished_at)
  select clinic_id, 'infer', id || ':1', id, 1, 'done', at, at + interval '150 s' from public.s;
create table public.t as select s.*, task, case task when 'ms-lesion' then '{second}' else '{brain}' end as digest,
    registry.uuid7() as result_id from public.s s, unnest(array['ms-lesion', 'brain-extraction']) task;
insert into serving.result(id, clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq, digest,
    findings, created_at)
  select result_id, clinic_id, id, 1, task, seq, 1, '*', case task when 'ms-lesion' then 2 else 1 end, digest,
    '{{"findings": [{{"label": "lesion", "ml": 3.2}}], "numbers": {{"lesion_ml": 3.2}}, "quality": {{"snr_wm": 21}}}}',
    at + interval '140 s' from public.t;
insert into serving.feature(clinic_id, study_id, revision, task, digest, profile, values, at)
  select clinic_id, id, 1, task, digest, '{{"vendor": "siemens", "model": "Prisma", "sequence_class": "FLAIR"}}',
    (select jsonb_object_agg('feature_' || f, 10 + (seq * f) % 97 / 10.0) from generate_series(1, 20) f),
    at + interval '140 s' from public.t order by i, n, task;
insert into serving.outbox(clinic_id, job_id, result_object_id, destination_id, study_id, digest, state, created_at,
    finished_at)
  select clinic_id, seq, registry.uuid7(), registry.uuid7(), id, digest, 'delivered', at, at + interval '160 s'
  from public.t, generate_series(1, 2);
create table public.m as
  select clinic_id, n, registry.uuid7() as stream_id, task, digest,
    case task when 'ms-lesion' then 'FLAIR' else 'T1' end as sequence
  from public.k, (values ('ms-lesion', '{first}'), ('ms-lesion', '{second}'), ('brain-extraction', '{brain}'))
    v(task, digest)
  where n % 50 <> 9;
insert into monitoring.stream(clinic_id, id, task, sequence, digest, began_seq)
  select clinic_id, stream_id, task, sequence, digest, 0 from public.m;
insert into monitoring.reference_epoch(clinic_id, stream_id, epoch, from_seq, cause, fresh, threshold, by_whom, reason)
  select clinic_id, stream_id, e, e, 'first', true, 14600, 'radfleet', 'first studies'
  from public.m, generate_series(1, 2) e;
insert into monitoring.observation(clinic_id, stream_id, seq, study_id, at, epoch, scanner_group, outcome, statistic)
  select m.clinic_id, m.stream_id, f.seq, f.study_id, f.at, 2, 'siemens prisma', 'ranked', exp(9 * random())
  from public.m m join serving.feature f using (clinic_id, digest);
insert into monitoring.stream_state(clinic_id, stream_id, seq, epoch, state, facts, n, ranked, statistic, threshold,
    watching, flagged_seq, since_seq, last_at)
  select m.clinic_id, m.stream_id, coalesce(o.seq, 0), 2, convert_to(repeat('s', 9000), 'UTF8'),
    jsonb_build_object('phase', 'watching', 'groups', jsonb_build_array('siemens prisma'), 'watched',
      (select jsonb_agg('feature_' || f) from generate_series(1, 20) f), 'unwatched', '{{}}'::jsonb,
      'missing', '{{}}'::jsonb),
    {studies}, {studies}, 40, 14600, n % 9 = 1, null, o.seq - 20, coalesce(o.at, now() - interval '40 d')
  from public.m m left join lateral (select seq, at from monitoring.observation o
    where o.clinic_id = m.clinic_id and o.stream_id = m.stream_id order by seq desc limit 1) o on true;
insert into monitoring.cursor(clinic_id, seq) select clinic_id, (select max(seq) from serving.feature) from public.k;
insert into monitoring.verdict(clinic_id, stream_id, number, seq, verdict, rule, sentence, action, would_change,
    evidence)
  select clinic_id, stream_id, v, v, case when v < 8 then 'healthy' when n % 60 = 1 then 'fine_tune'
    when n % 9 = 1 then 'watch' when n % 9 = 2 then 'not_enough_data' else 'healthy' end, 9,
    'Its results agree with reviewers (made up).', 'Nothing.', 'Nine more reviews below 0.75.',
    jsonb_build_object('n', v, 'odds', (select jsonb_agg(f) from generate_series(1, 40) f))
  from public.m, generate_series(1, 8) v;
insert into monitoring.flag(clinic_id, stream_id, kind, epoch, subject, state, seq, since_seq, since_at, statistic,
    threshold, features, cause, sentence, would_change, resolved_by, resolved_at, resolved_reason)
  select clinic_id, stream_id, 'drift', e, '', case when e = 2 and m.n % 12 = 1 then 'open' else 'resolved' end, seq,
    seq - 20, now() - interval '1 d', 20000, 14600, '[{{"name": "feature_1", "direction": "up", "certain": true}}]',
    '{{"group": "siemens prisma"}}', 'FLAIR has been noisier for a day (made up).', 'Nine more reviews.',
    case when e = 2 and m.n % 12 = 1 then null else 'quin' end,
    case when e = 2 and m.n % 12 = 1 then null else now() end,
    case when e = 2 and m.n % 12 = 1 then null else 'looked at' end
  from public.m m join monitoring.stream_state using (clinic_id, stream_id), generate_series(1, 2) e
  where task = 'ms-lesion' and seq > 20;
select count(monitoring.append_flag_event(clinic_id, id, 'radfleet', 'raised', '{{}}')) from monitoring.flag;
insert into monitoring.audit(clinic_id, stream_id, study_id, seq, chance, draw, why, blinded, twice, drawn_at)
  select o.clinic_id, o.stream_id, o.study_id, o.seq, 0.03, case when o.seq % 33 = 1 then 0.01 else 0.5 end,
    'routine', o.seq % 5 = 1, o.seq % 10 = 1, o.at from monitoring.observation o;
insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, blinded, reader, minutes,
    dice, delivered_ml, corrected_ml, mask_kind, mask_path, mask_size, mask_sha256, at)
  select a.clinic_id, a.study_id, 1, r.task, r.id, r.digest, 'edit', a.blinded, 'quin', 4,
    0.7 + a.seq % 20 / 100.0, 3, 3, 'nifti', 'masks/' || a.seq, 1, sha256('m'), a.drawn_at + interval '1 h'
  from monitoring.audit a join monitoring.stream m on m.clinic_id = a.clinic_id and m.id = a.stream_id
  join serving.result r on r.clinic_id = a.clinic_id and r.study_id = a.study_id and r.task = m.task
  where a.chosen and a.seq % 66 = 1;
insert into monitoring.day_count(clinic_id, day, studies, state) select clinic_id, at::date, count(*), '{{}}'
  from public.s group by 1, 2;
drop table public.k, public.s, public.t, public.m;
"""


@contextmanager
def empty() -> Iterator[Server]:
    """A PostgreSQL with a migrated, empty database; it is gone afterwards."""
    with running() as server:
        migrated(server, DATABASE)
        yield server


def fill(conn: "psycopg.Connection[Any]", clinics: int, studies: int) -> dict[str, int]:
    """Write the fleet as the superuser; rows of the larger tables."""
    values = {
        "clinics": clinics,
        "studies": studies,
        "per_day": PER_DAY,
        "first": FIRST,
        "second": SECOND,
        "brain": BRAIN,
    }
    conn.execute("set session_replication_role = replica")
    conn.execute(FILL.format(**values))
    for clinic_id, seq in conn.execute("select clinic_id, seq from monitoring.cursor").fetchall():
        vendors_store.count(conn, clinic_id, seq)
    conn.execute("set session_replication_role = origin")
    conn.execute("vacuum analyze")
    tables = (
        "registry.clinic", "registry.binding", "serving.study", "serving.result", "serving.feature", "serving.outbox",
        "serving.review", "monitoring.stream", "monitoring.observation", "monitoring.verdict", "monitoring.flag",
        "monitoring.audit",
    )  # fmt: skip
    return {table: int(conn.execute(f"select count(*) from {table}").fetchone()[0]) for table in tables}
