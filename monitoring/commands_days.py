"""The command that shows how many studies each whole day brought, and which days were not counted."""

from typing import Annotated

import typer

from registry.core.output import show
from registry.core.settings import settings
from registry.verbs import ROWS, AsJson, Limit


def days(
    clinic: Annotated[str, typer.Argument(metavar="CLINIC")], limit: Limit = ROWS, as_json: AsJson = False
) -> None:
    """Show a clinic's whole days (UTC), the latest first: studies, whether the day was closed and why."""
    from monitoring import flags_store
    from monitoring.errors import ClinicUnwatched
    from monitoring.streams import volume_store
    from registry.core.db import database

    with database(settings()).monitor() as conn:
        clinic_id = flags_store.clinic_id(conn, clinic)
        if clinic_id is None:
            raise ClinicUnwatched(f"there is no clinic {clinic}")
        rows = volume_store.page(conn, clinic_id, limit)
    if as_json:
        show(rows, as_json=True)
        return
    table = [
        {"day": row["day"], "studies": row["studies"], "counted": "no: closed" if row["closed"] else "yes",
         "why": row["reason"] if row["closed"] else None, "times counted": row["turn"]}
        for row in rows
    ]  # fmt: skip
    show(table, as_json=False, empty="no day is counted yet: the monitor counts a day when it is over")
