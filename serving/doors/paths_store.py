"""SQL of the orphan sweep: which files of the store have a row."""

from collections.abc import Sequence
from uuid import UUID

from registry.core.db import Conn

KNOWN = "select path from serving.instance where clinic_id = %(clinic_id)s and path = any(%(paths)s)"


def known_instances(conn: Conn, clinic_id: UUID, paths: Sequence[str]) -> set[str]:
    """Which of these store paths belong to a received instance."""
    return {row[0] for row in conn.execute(KNOWN, {"clinic_id": clinic_id, "paths": list(paths)}).fetchall()}
