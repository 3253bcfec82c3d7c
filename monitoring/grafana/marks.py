"""What a dashboard marks: each promotion and rollback, and each change of a scanner at a clinic."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry.verbs import short


@dataclass(frozen=True, slots=True)
class Mark:
    """One annotation. ``tag`` is its own and says that it is there."""

    tag: str
    name: str
    at: datetime
    tags: tuple[str, ...]
    text: str


def of_promotions(rows: Sequence[Mapping[str, Any]]) -> list[Mark]:
    """``rows``: of load_store.changes."""
    return [
        Mark(
            f"promotion-{row['id']}", f"{row['kind']} {row['id']}", row["changed_at"], (row["kind"], row["clinic"]),
            f"{row['clinic']}, {row['task']} ({row['scope'].partition(':')[0]}): {row['kind']} to {row['model']}"
            f" ({short(row['digest'])})",
        )
        for row in rows
    ]  # fmt: skip


def of_scanners(moments: Sequence[Mapping[str, Any]]) -> list[Mark]:
    """``moments``: of vendors.changes. An older study that comes late moves the time and makes no second mark."""
    found = []
    for one in moments:
        text = f"{one['clinic']}: {one['what']}, {one['detail']}"
        own = hashlib.sha256(f"{one['kind']} {text}".encode()).hexdigest()[:12]
        found.append(
            Mark(f"scanner-{own}", f"{one['kind']} {own}", one["at"], (one["kind"], one["clinic"]), text)
        )
    return found
