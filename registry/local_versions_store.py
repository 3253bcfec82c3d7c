"""Rows of local versions: fine-tuned on one clinic's people, and meant for that clinic alone."""

from collections.abc import Mapping
from uuid import UUID

from registry.core.db import Conn

ADD = """
insert into registry.local_version(clinic_id, digest, parent, cohort, people_train, people_evaluation, tier, made_by)
values (%(clinic_id)s, %(digest)s, %(parent)s, %(cohort)s, %(people_train)s, %(people_evaluation)s, %(tier)s, %(by)s)
on conflict do nothing"""


def add(conn: Conn, values: Mapping[str, object]) -> None:
    """Say whose a version is; the same again changes nothing. Needs a system transaction."""
    conn.execute(ADD, values)


OTHERS = """
select digest from registry.local_version group by digest having not bool_or(clinic_id = %(clinic_id)s) limit 10000"""


def others(conn: Conn, clinic_id: UUID) -> set[str]:
    """The local versions of other clinics, which this one must not learn of. Needs a system transaction."""
    return {str(row[0]) for row in conn.execute(OTHERS, {"clinic_id": clinic_id})}


# A digest can belong to several clinics only where each made the very same bytes.
ELSEWHERE = """
select count(*) > 0 and not bool_or(clinic_id = %(clinic_id)s) from registry.local_version where digest = %(digest)s"""


def elsewhere(conn: Conn, clinic_id: UUID, digest: str) -> bool:
    """Whether this is a local version of other clinics and not of this one. Needs a system transaction."""
    row = conn.execute(ELSEWHERE, {"clinic_id": clinic_id, "digest": digest}).fetchone()
    return bool(row and row[0])
