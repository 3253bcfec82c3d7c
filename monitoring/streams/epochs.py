"""Epochs: when a stream's rows begin to be judged against another reference, and who said so."""

from collections.abc import Container
from uuid import UUID

from monitoring.detect import detector
from monitoring.errors import StreamUnknown
from monitoring.streams import feed, parts, shares, streams_store
from monitoring.streams.parts import Place
from monitoring.streams.state import Row, Stream
from monitoring.streams.streams_store import Epoch, Key, Policy, Stored
from registry.core.db import Conn

WATCHER = "radfleet"


def threshold(policy: Policy, streams: int) -> float:
    """h of each of a clinic's ``streams`` streams, so that all of them together keep drift's share of the budget."""
    return detector.threshold(policy.per_day, shares.share("drift", policy.budget)) * max(streams, 1)


def first(conn: Conn, clinic_id: UUID, key: Key, row: Row, h: float) -> Epoch:
    """The epoch that a stream's first row begins; a version that was promoted says by whom."""
    cause, promotion_id, by, reason = _cause(conn, clinic_id, key, row)
    if cause == "binding":
        cause, reason = "first", f"the first studies of this version: {reason}"
    return Epoch(1, row.seq - 1, cause, True, h, promotion_id, by, reason)


def next_by_binding(conn: Conn, clinic_id: UUID, key: Key, row: Row, its: Stream, h: float) -> Epoch:
    """The epoch of a version that was bound again after another one."""
    cause, promotion_id, by, reason = _cause(conn, clinic_id, key, row)
    return Epoch(its.epoch + 1, its.seq, cause, True, h, promotion_id, by, reason)


def begin(conn: Conn, clinic_id: UUID, stream_id: UUID, *, fresh: bool, by: str, reason: str) -> int:
    """Begin an epoch because a person said so: with a new reference, or with the old one and new sums.

    Needs monitoring's writing transaction. Returns the epoch. Raises StreamUnknown.
    """
    streams_store.lock(conn, clinic_id)  # the follower waits, so that no row falls between two epochs
    found = [its for its in streams_store.streams(conn, clinic_id) if its.stream_id == stream_id]
    if not found:
        raise StreamUnknown
    its = loaded(conn, clinic_id, found[0])
    epoch = Epoch(its.epoch + 1, its.seq, "person", fresh, its.threshold, None, by, reason)
    streams_store.add_epoch(conn, clinic_id, stream_id, epoch)
    after = feed.restarted(its, epoch.epoch, epoch.threshold, fresh=fresh)
    save(conn, clinic_id, stream_id, after, parts.places(its))
    return epoch.epoch


def loaded(conn: Conn, clinic_id: UUID, stored: Stored) -> Stream:
    """A stream out of its state and the rows that are kept of it. Raises StateDamaged."""
    rows = streams_store.kept(conn, clinic_id, stored.stream_id, parts.base(stored.state))
    return parts.whole(stored.state, rows)


def save(
    conn: Conn, clinic_id: UUID, stream_id: UUID, its: Stream, known: Container[Place] = frozenset()
) -> None:
    """Write a stream's state, and of its rows those that are not ``known`` to be kept already."""
    streams_store.keep(conn, clinic_id, stream_id, parts.kept(its, known))
    since = feed.since(its)
    values = {
        "seq": its.seq, "epoch": its.epoch, "state": parts.hot(its), "facts": feed.facts(its), "n": its.n,
        "ranked": its.ranked, "statistic": its.statistic, "threshold": its.threshold, "watching": its.watching,
        "flagged_seq": its.flagged_seq, "since_seq": since.seq if since else None, "last_at": its.last_at,
    }  # fmt: skip
    streams_store.save(conn, clinic_id, stream_id, values)


def replayed(conn: Conn, clinic_id: UUID, stored: Stored) -> Stream:
    """The stream computed again from the published rows and the epochs alone: its bytes must be those of ``loaded``."""
    boundaries = streams_store.epochs(conn, clinic_id, stored.stream_id)
    its, seen = feed.new(1, boundaries[0].threshold, boundaries[0].from_seq), set[str]()
    last, after = stored.seq, 0
    waiting = boundaries[1:]
    while page := streams_store.rows(conn, clinic_id, after, last, 500):
        after = page[-1][1].seq
        for key, row in page:
            if key != stored.key:
                continue
            its, waiting = _advanced(its, waiting, row.seq)
            step = feed.feed(its, row, again=row.study in seen)
            its = step.stream
            if step.outcome != "nothing":
                seen.add(row.study)
    its, _ = _advanced(its, waiting, last + 1)
    return its


def _advanced(its: Stream, waiting: list[Epoch], seq: int) -> tuple[Stream, list[Epoch]]:
    while waiting and waiting[0].from_seq < seq:
        head, waiting = waiting[0], waiting[1:]
        its = feed.restarted(its, head.epoch, head.threshold, fresh=head.fresh)
    return its, waiting


def _cause(conn: Conn, clinic_id: UUID, key: Key, row: Row) -> tuple[str, int | None, str, str]:
    found = streams_store.binding_cause(conn, clinic_id, key.task, row.binding) if row.binding else None
    return found or ("binding", None, WATCHER, "the first row of a version whose binding is not known")
