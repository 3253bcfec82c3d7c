"""Follows serving's feature rows clinic by clinic in sequence order: state and consequences in one transaction.

A sequence number is drawn before its row is committed, so a row may appear after a higher one. The follower takes a
number as settled when every transaction that could have drawn a lower one has ended; what was settled is never passed
by a late row, and a follower that is killed anywhere begins again where its last transaction ended.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from uuid import UUID

from monitoring import flags, flags_store, sentences
from monitoring.errors import StateDamaged
from monitoring.flags_store import Raised
from monitoring.judge import audits, evidence_store
from monitoring.judge.judging import judged
from monitoring.streams import epochs, feed, groups, responses, streams_store
from monitoring.streams.feed import Arrival, Drift, Step
from monitoring.streams.parts import Place, places
from monitoring.streams.state import Row, Stream
from monitoring.streams.streams_store import Key, Observation, Stored
from monitoring.vendors import vendors_store
from registry.core.db import Conn, Database
from registry.core.logs import log

BATCH = 200
COUNTED = ("reference", "ranked", "learning", "new_group")
"""Outcomes of rows whose study is new here: each is drawn for reading, or not."""


@dataclass(slots=True)
class _Open:
    """One stream while a batch is taken."""

    stream_id: UUID
    key: Key
    its: Stream
    seen: set[str]
    known: set[Place]
    """What is kept of it already."""
    observations: list[Observation] = field(default_factory=list)
    drifts: list[tuple[int, Drift, tuple[str, int] | None]] = field(default_factory=list)
    arrivals: list[tuple[int, Arrival, tuple[str, int] | None]] = field(default_factory=list)
    again: int = 0
    standing: audits.Standing = field(default_factory=audits.Standing)
    draws: list[tuple[int, str, audits.Draw]] = field(default_factory=list)


class Follower:
    """Takes settled rows. ``notify``: channels by which changes of flags are told to the outside."""

    def __init__(self, db: Database, *, notify: Sequence[str] = ()) -> None:
        self._db = db
        self._notify = notify
        self._settled = 0
        self._pending: tuple[int, int] | None = None

    def settle(self) -> int:
        """The highest sequence number below which no row can appear any more."""
        if self._pending is None:
            with self._db.monitor() as conn:
                self._pending = streams_store.last(conn)
        if self._pending[0] <= self._settled:
            self._pending = None
            return self._settled
        with self._db.monitor() as conn:
            ended = streams_store.oldest(conn) > self._pending[1]
        if ended:
            self._settled, self._pending = self._pending[0], None
        return self._settled

    def turn(self) -> int:
        """Take what is settled of every clinic, at most a batch each; resolve what promotions answered. Rows taken."""
        settled = self.settle()
        with self._db.monitor() as conn:
            clinics = streams_store.clinics_with_news(conn, settled)
        taken = sum(self._or_say(clinic_id, partial(self.take, clinic_id, settled)) for clinic_id in clinics)
        self._judge_reviewed()
        with self._db.monitor() as conn:
            answered = flags_store.superseded(conn)
        for row in answered:
            with self._db.monitor(write=True) as conn:
                flags.resolve_superseded(conn, row, notify=self._notify)
        return taken

    def _judge_reviewed(self) -> None:
        """Judge again where a review came: harm must not wait for the next study."""
        with self._db.monitor() as conn:
            waiting = evidence_store.reviewed(conn)
        for clinic_id, stream_id in waiting:
            self._or_say(clinic_id, partial(self._judge, clinic_id, stream_id))

    def _judge(self, clinic_id: UUID, stream_id: UUID) -> int:
        with self._db.monitor(write=True) as conn:
            streams_store.lock(conn, clinic_id)
            for one in streams_store.streams(conn, clinic_id):
                if one.stream_id == stream_id:
                    its = epochs.loaded(conn, clinic_id, one)
                    judged(conn, clinic_id, stream_id, one.key, its, notify=self._notify)
        return 0

    def _or_say(self, clinic_id: UUID, work: Callable[[], int]) -> int:
        """One clinic's damaged state must not stop the others: it is logged with its cure and tried again."""
        try:
            return work()
        except StateDamaged as error:
            log().error("state_damaged", clinic_id=str(clinic_id), code=error.code)
            return 0

    def take(self, clinic_id: UUID, settled: int) -> int:
        """Take the next rows of one clinic, in one transaction; returns how many."""
        with self._db.monitor(write=True) as conn:
            after = streams_store.lock(conn, clinic_id)
            rows = streams_store.rows(conn, clinic_id, after, settled, BATCH)
            vendors_store.count(conn, clinic_id, rows[-1][1].seq if rows else after)
            if not rows:
                return 0
            opened = self._fed(conn, clinic_id, rows)
            for one in opened:
                streams_store.add_observations(conn, clinic_id, one.stream_id, one.observations)
                epochs.save(conn, clinic_id, one.stream_id, one.its, one.known)
                self._flag(conn, clinic_id, one)
                evidence_store.add_draws(conn, clinic_id, one.stream_id, one.draws)
                judged(conn, clinic_id, one.stream_id, one.key, one.its, notify=self._notify)
            streams_store.move(conn, clinic_id, rows[-1][1].seq)
        return len(rows)

    def _fed(self, conn: Conn, clinic_id: UUID, rows: list[tuple[Key, Row]]) -> Iterable[_Open]:
        stored = streams_store.streams(conn, clinic_id)
        known = {one.key: one for one in stored}
        seen = streams_store.seen(conn, clinic_id, [row.study for _, row in rows])
        policy = streams_store.policy(conn, clinic_id)
        opened: dict[Key, _Open] = {}
        for key, row in rows:
            kinds = {(k.task, k.sequence) for k in (*known, *opened, key)}
            h = epochs.threshold(policy, len(kinds))
            if key not in opened:
                opened[key] = _opened(conn, clinic_id, key, row, h, known.get(key), seen)
            one = opened[key]
            if row.seq > one.its.seq and feed.is_new_binding(one.its, row):
                epoch = epochs.next_by_binding(conn, clinic_id, key, row, one.its, h)
                streams_store.add_epoch(conn, clinic_id, one.stream_id, epoch)
                one.its = feed.restarted(one.its, epoch.epoch, epoch.threshold, fresh=True)
            reading = _chance(one, row)
            _note(one, row, feed.feed(one.its, row, again=row.study in one.seen), reading)
        return opened.values()

    def _flag(self, conn: Conn, clinic_id: UUID, one: _Open) -> None:
        for epoch, arrival, binding in one.arrivals:
            raised = arrival_flag(one.key, arrival, epoch, binding, one.its)
            flags.raise_or_update(conn, clinic_id, one.stream_id, raised, notify=self._notify)
        for epoch, drift, binding in one.drifts:
            raised = drift_flag(one.key, drift, epoch, binding, one.its)
            flags.raise_or_update(conn, clinic_id, one.stream_id, raised, notify=self._notify)
        if one.again:
            flags_store.again(conn, clinic_id, one.stream_id, one.its.epoch, one.again, one.its.statistic)


def _opened(
    conn: Conn, clinic_id: UUID, key: Key, row: Row, h: float, known: Stored | None,
    seen: set[tuple[UUID, str]],
) -> _Open:  # fmt: skip
    if known:
        its = epochs.loaded(conn, clinic_id, known)
        standing = evidence_store.standing(conn, clinic_id, known.stream_id, its.flagged_seq)
        before = {study for at, study in seen if at == known.stream_id}
        return _Open(known.stream_id, key, its, before, places(its), standing=standing)
    stream_id = streams_store.add_stream(conn, clinic_id, key, row.seq)
    epoch = epochs.first(conn, clinic_id, key, row, h)
    streams_store.add_epoch(conn, clinic_id, stream_id, epoch)
    return _Open(stream_id, key, feed.new(1, h, epoch.from_seq), set(), set())


def _chance(one: _Open, row: Row) -> tuple[float, str]:
    """With which chance this study is read, from what is known before it."""
    group = one.its.groups.get(groups.name(row.group))
    beside = (
        None if one.its.detector is None else group.n if group else 0
    )  # while a reference is made, all are new
    return audits.chance(one.standing, drifting=one.its.flagged_seq is not None, group_studies=beside)


def _note(one: _Open, row: Row, step: Step, reading: tuple[float, str]) -> None:
    flagged_before = one.its.flagged_seq is not None
    one.its = step.stream
    if step.outcome in COUNTED:
        one.draws.append((row.seq, row.study, audits.draw(*reading)))
    if step.outcome != "nothing":
        one.seen.add(row.study)
    one.observations.append(
        Observation(
            row.seq, row.study, row.at, one.its.epoch, groups.name(row.group), step.outcome, one.its.statistic,
            step.top_feature,
        )
    )  # fmt: skip
    if step.drift:
        one.drifts.append((one.its.epoch, step.drift, row.binding))
    if step.arrival and not groups.was_unsaid(step.arrival.changed):
        one.arrivals.append((one.its.epoch, step.arrival, row.binding))
    one.again += flagged_before and step.outcome == "ranked" and one.its.statistic >= one.its.threshold


def drift_flag(key: Key, drift: Drift, epoch: int, binding: tuple[str, int] | None, its: Stream) -> Raised:
    """A drift flag out of what the detector said."""
    of = its.groups.get(drift.group) if drift.group else None
    scanner = of.facts if of else (next(iter(its.groups.values())).facts if len(its.groups) == 1 else None)
    came = [
        (name, group) for name, group in its.groups.items()
        if name != drift.group and drift.since.low_seq <= group.first_seq <= drift.since.high_seq
    ]  # fmt: skip
    # Where a group came in the same days its header says what changed: a likeness would only guess beside it.
    like = responses.likeness(drift.shift, key.sequence) if drift.shift and not came else None
    likeness = {"likeness": {**asdict(like), "simulated": True}} if like else {}
    return Raised(
        "drift", epoch, "", drift.seq, drift.since.seq, drift.since.at, drift.statistic, drift.threshold,
        [
            {"name": name, "direction": way, "certain": sure, "words": sentences.feature(name)}
            for name, way, sure in drift.features
        ],
        {"group": drift.group, "since": asdict(drift.since), "studies": drift.studies, "percent": drift.percent,
         "outlying": drift.outlying, "came": [name for name, _ in came], **likeness, **(scanner or {})},
        binding[0] if binding else None,
        sentences.drift(key.sequence, drift, scanner, [g.facts for _, g in came], like),
        flags.WOULD_CHANGE,
    )  # fmt: skip


def arrival_flag(
    key: Key, arrival: Arrival, epoch: int, binding: tuple[str, int] | None, its: Stream
) -> Raised:
    """An acquisition flag: a scanner group that the reference does not know."""
    return Raised(
        "acquisition", epoch, arrival.name, arrival.seq, arrival.seq, arrival.at, its.statistic, its.threshold, [],
        {"group": arrival.name, "changed": {k: list(pair) for k, pair in arrival.changed.items()}, **arrival.facts},
        binding[0] if binding else None, sentences.arrival(key.sequence, arrival), flags.WOULD_CHANGE,
    )  # fmt: skip
