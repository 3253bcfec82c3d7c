"""SQL of what flags ask for: monitoring's published flags with the verdict that holds."""

from dataclasses import dataclass

from psycopg.rows import class_row

from registry.core.db import Conn

TIERS = {"recalibrate": ("T1",), "fine_tune": ("T1", "T2")}


@dataclass(frozen=True, slots=True)
class Wanted:
    """An open flag: where it arose and what the verdict on its stream is."""

    number: int
    clinic: str
    task: str
    scope: str
    verdict: str

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that the verdict asks for; none where it asks for no cure."""
        return TIERS.get(self.verdict, ())


BY_FLAG = """
select id::int as number, clinic, task, coalesce(binding_scope, '*') as scope, coalesce(verdict, '') as verdict
from monitoring.flag_v where id = %(number)s and state <> 'resolved'"""


def by_flag(conn: Conn, number: int) -> Wanted | None:
    """An open flag by its number."""
    with conn.cursor(row_factory=class_row(Wanted)) as cursor:
        return cursor.execute(BY_FLAG, {"number": number}).fetchone()
