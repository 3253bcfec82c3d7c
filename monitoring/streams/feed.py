"""What one feature row does to its stream: a pure step, so that a replay of the rows gives the same bytes.

    collect 50 studies of one scanner group -> choose what can be watched -> detector R, row by row

A scanner group that the reference does not know is an event read from the header at its first study.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from monitoring.detect import detector
from monitoring.detect.detector import HISTORY, LEAST, MOST, WATCH
from monitoring.detect.state import State
from monitoring.streams import groups, missing
from monitoring.streams.state import Began, Group, Row, Stream, vector

DISTINCT = 10
"""Distinct values that a feature needs in the reference; below it, it is a count and no measurement."""
GROUPS_MAX = 32
"""Scanner groups an epoch can hold; a header that changes with every study must not grow without end."""
CALM = 2
"""A watch ends below h / 20, half of where it began, so that S at the edge does not blink."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The detector's flag in words of the stream."""

    seq: int
    at: str
    since: Began
    statistic: float
    threshold: float
    features: tuple[tuple[str, str, bool], ...]
    """Name, direction and whether it moved for sure, strongest first."""
    group: str | None
    """The scanner group that moved, None where all did."""
    studies: int
    """Of those groups, since then."""
    percent: float | None
    """By how much the median of the first feature lies off its reference; None where that says nothing."""
    outlying: tuple[int, int] | None = None
    """Studies since then that are outlying and of how many, where perhaps only some changed."""
    shift: Mapping[str, float] | None = None
    """Mean normal score of each watched feature since then; None where no feature moved for sure."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A scanner group that the reference does not know."""

    seq: int
    at: str
    name: str
    facts: Mapping[str, str]
    changed: Mapping[str, Sequence[str]]
    """Part of the group -> before and after, against the most similar one known."""


@dataclass(frozen=True, slots=True)
class Step:
    """The stream after one row, and what the row caused. ``outcome`` is a word of monitoring.observation."""

    stream: Stream
    outcome: str
    top_feature: str | None = None
    drift: Drift | None = None
    arrival: Arrival | None = None


def new(epoch: int, threshold: float, seq: int, bindings: Mapping[str, int] | None = None) -> Stream:
    """An epoch without rows; it takes those after ``seq``. ``threshold`` is in studies."""
    return Stream(epoch, threshold, seq, base=epoch, bindings=bindings or {})


def restarted(stream: Stream, epoch: int, threshold: float, *, fresh: bool) -> Stream:
    """The next epoch: with a reference of its own, or with the old reference and sums that begin again."""
    if fresh or stream.detector is None:
        return replace(new(epoch, threshold, stream.seq, stream.bindings), last_at=stream.last_at)
    began = detector.restarted(stream.detector, epoch, threshold)
    return replace(
        stream, epoch=epoch, threshold=threshold, detector=began, watching=False, flagged_seq=None, began=None,
        moments=(), n=0, ranked=0, again=0, gaps=replace(stream.gaps, gaps={}, proven=(False, False)), missing={},
    )  # fmt: skip


def is_new_binding(stream: Stream, row: Row) -> bool:
    """Whether this version was bound anew since the last row: something else answered in between."""
    if row.binding is None:
        return False
    scope, seq = row.binding
    return scope in stream.bindings and seq > stream.bindings[scope]


def feed(stream: Stream, row: Row, *, again: bool = False) -> Step:
    """Take one row. One that was taken already changes nothing; ``again``: its study was counted before."""
    if row.seq <= stream.seq:
        return Step(stream, "again")
    stream = replace(stream, seq=row.seq, last_at=row.at, bindings=_bound(stream, row))
    if again:
        return Step(replace(stream, again=stream.again + 1), "again")
    name = groups.name(row.group)
    if not row.values:  # no study to rank, but one in which all is missing
        return Step(_lacking(stream, name, row), "nothing")
    known = name in stream.groups
    if not known and len(stream.groups) >= GROUPS_MAX:
        return Step(replace(stream, crowded=stream.crowded + 1), "crowded")
    before = sorted(stream.groups.values(), key=lambda group: group.first_seq)
    stream = replace(stream, n=stream.n + 1, groups=_counted(stream, name, row))
    if stream.detector is None:
        return Step(_collected(stream, row), "reference")
    step = _watched(stream, stream.detector, name, row)
    if known:
        return step
    change = groups.changed(row.group, [group.facts for group in before])
    return replace(step, outcome="new_group", arrival=Arrival(row.seq, row.at, name, row.group, change))


def _bound(stream: Stream, row: Row) -> Mapping[str, int]:
    if row.binding is None:
        return stream.bindings
    scope, seq = row.binding
    return {**stream.bindings, scope: max(seq, stream.bindings.get(scope, 0))}


def _counted(stream: Stream, name: str, row: Row) -> dict[str, Group]:
    old = stream.groups.get(name) or Group(dict(row.group), row.seq, row.at, 0)
    return {**stream.groups, name: replace(old, n=old.n + 1)}


def _collected(stream: Stream, row: Row) -> Stream:
    """Keep the row; when one group has enough, choose what is watched and begin."""
    rows = (*stream.collecting, row)[-MOST:]
    stream = replace(stream, collecting=rows)
    of = [groups.name(r.group) for r in rows]
    if max(Counter(of).values()) < LEAST:
        return stream
    features, unwatched = choose(rows)
    if not features:
        return replace(stream, unwatched=unwatched)
    reference = np.array([vector(r, features) for r in rows])
    began = detector.begin(features, reference, of, epoch=stream.epoch, h=stream.threshold)
    gaps = missing.begin([(group, _there(r)) for group, r in zip(of, rows, strict=True)])
    return replace(stream, collecting=(), detector=began, unwatched=unwatched, gaps=gaps)


def _there(row: Row) -> set[str]:
    """The fields that a row has: features with a finite number, and what its header says."""
    return {*row.values} | missing.header(row.group)


def _lacking(stream: Stream, name: str, row: Row) -> Stream:
    """Count what the row lacks of what its scanner group had in the reference."""
    its = stream.detector
    if its is None:
        return stream
    gaps = stream.gaps
    if detector.is_ranked(its, name):
        gaps = missing.joined(gaps, name, its.features, its.references[its.groups.index(name)])
    gaps = missing.step(gaps, name, _there(row), row.seq, row.at, stream.threshold)
    absent = {f: stream.missing.get(f, 0) + 1 for f in its.features if f not in row.values}
    return replace(stream, gaps=gaps, missing={**stream.missing, **absent})


def choose(rows: Sequence[Row]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The features that can be watched against these rows, by name, and why the others cannot."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.values.items():
            columns.setdefault(name, []).append(value)
        for name in row.blank:
            columns.setdefault(name, [])
    why: dict[str, str] = {}
    for name, values in sorted(columns.items()):
        if len(values) < LEAST:
            why[name] = f"{len(values)} of {len(rows)} reference studies have it"
        elif len(set(values)) < DISTINCT:
            why[name] = f"only {len(set(values))} different values"
    return tuple(sorted(set(columns) - set(why))), why


def _watched(stream: Stream, began: State, name: str, row: Row) -> Step:
    stream = _lacking(stream, name, row)
    values = vector(row, began.features)
    ranked = detector.is_ranked(began, name) and not np.isnan(values).all()
    its, flag = detector.step(began, row.study, name, values)
    late = {*row.values, *row.blank} - set(its.features) - set(stream.unwatched) - set(stream.unknown)
    stream = replace(
        stream, detector=its, ranked=stream.ranked + ranked, watching=_watching(stream, its),
        flagged_seq=row.seq if flag else stream.flagged_seq,
        unknown=(*stream.unknown, *sorted(late)), moments=(*stream.moments, (row.seq, row.at))[-HISTORY:],
    )  # fmt: skip
    if not ranked:
        return Step(stream, "learning")
    top = its.features[int(its.m.mean(axis=1).argmax())]
    if flag is None:
        return Step(stream, "ranked", top)
    stream = replace(stream, began=_dated(stream, its, (flag.since_row, *flag.since_range)))
    return Step(stream, "ranked", top, _drift(stream, its, flag, row))


def _watching(stream: Stream, its: State) -> bool:
    edge = its.threshold / WATCH / (CALM if stream.watching else 1)
    return its.statistic >= edge


def since(stream: Stream) -> Began | None:
    """Since when the stream drifts: as it was known at its flag, or by what is known now while it is watched."""
    its = stream.detector
    if stream.began or its is None or not stream.watching:
        return stream.began
    found = detector.since_when(its)
    return _dated(stream, its, (found.row, found.low, found.high)) if found else None


def _dated(stream: Stream, its: State, rows: tuple[int, int, int]) -> Began:
    """Rows of the detector as studies of the stream."""
    (seq, at), low, high = (stream.moments[row - its.seq] for row in rows)
    return Began(seq, at, *low, *high)


def _drift(stream: Stream, its: State, flag: detector.Flag, row: Row) -> Drift:
    first, *others = flag.features
    names = [(first, flag.direction[first], flag.certain), *((f, flag.direction[f], True) for f in others)]
    names += [(f, flag.direction[f], False) for f in flag.also_moving]
    assert stream.began is not None
    top, since_then = its.features.index(first), its.seq - flag.since_row
    group = _moved_group(its, top, since_then)
    studies, percent = _amount(its, top, since_then, group)
    sure = flag.certain and flag.direction[first] == ("up" if (percent or 0) > 0 else "down")
    return Drift(
        row.seq, row.at, stream.began, flag.statistic, flag.threshold, tuple(names), group, studies,
        percent if sure else None, flag.outlying, _shift(its, since_then, group) if flag.certain else None,
    )  # fmt: skip


def _shift(its: State, studies: int, group: str | None) -> dict[str, float]:
    """The mean score of each feature over the latest rows, of one group or of all; scores are centred on the reference.

    A feature without a score in those rows is left out.
    """
    rows = detector.scores(its)[-studies:]
    if group is not None:
        rows = rows[its.history_groups[-studies:] == its.groups.index(group)]
    known = ~np.isnan(rows)
    return {f: float(rows[there, n].mean()) for n, (f, there) in enumerate(zip(its.features, known.T, strict=True))
            if there.any()}  # fmt: skip


def _amount(its: State, feature: int, studies: int, group: str | None) -> tuple[int, float | None]:
    """How many of the latest rows have this feature, and the change of its median in percent, group by group.

    None where a value is not positive, for then a ratio says nothing. It is read from the rows that raised the flag,
    so it is rather too large than too small.
    """
    values, of = its.history[-studies:, feature], its.history_groups[-studies:]
    seen, ratios = 0, []
    for g, (name, reference) in enumerate(zip(its.groups, its.references, strict=True)):
        now, before = values[of == g], reference[:, feature]
        now, before = now[~np.isnan(now)], before[~np.isnan(before)]
        if len(now) and group in (None, name):
            seen += len(now)
            positive = min(now.min(), before.min()) > 0
            ratios.append(len(now) * float(np.median(now) / np.median(before)) if positive else np.nan)
    percent = 100 * (sum(ratios) / seen - 1) if seen else np.nan
    return seen, None if np.isnan(percent) else float(percent)


def _moved_group(its: State, feature: int, studies: int) -> str | None:
    """The group with the largest sqrt(n) |mean score| since the change; None where there is one alone or all agree."""
    scores: dict[str, list[float]] = {}
    for group, z in zip(
        its.history_groups[-studies:].tolist(), detector.scores(its)[-studies:, feature].tolist(), strict=True
    ):
        if not np.isnan(z):
            scores.setdefault(its.groups[group], []).append(z)
    if len(scores) < 2:
        return next(iter(scores), None) if len(its.groups) > 1 else None
    weight = {name: abs(float(np.mean(v))) * len(v) ** 0.5 for name, v in sorted(scores.items())}
    strongest = max(weight, key=weight.__getitem__)
    agree = all(abs(float(np.mean(v))) >= abs(float(np.mean(scores[strongest]))) / 2 for v in scores.values())
    return None if agree else strongest


def facts(stream: Stream) -> dict[str, Any]:
    """The stream for people, as plain JSON: monitoring.stream_v shows it."""
    its = stream.detector
    held = dict(zip(its.groups, its.references, strict=True)) if its else {}
    waiting = Counter(groups.name(row.group) for row in stream.collecting)
    return {
        "phase": "watching" if its else "collecting",
        "groups": [
            {"name": name, **group.facts, "first_seq": group.first_seq, "first_at": group.first_at, "n": group.n,
             "reference": len(held[name]) if name in held else waiting[name]}
            for name, group in sorted(stream.groups.items(), key=lambda item: item[1].first_seq)
        ],
        "watched": list(its.features) if its else [],
        "unwatched": dict(stream.unwatched) | dict.fromkeys(stream.unknown, "it came after the reference"),
        "missing": dict(stream.missing), "again": stream.again, "crowded": stream.crowded,
        "moving": _moving(its) if its else [],
    }  # fmt: skip


def _moving(its: State) -> list[dict[str, Any]]:
    """Every feature at the level of a watch: its own mean of M and its direction, strongest first."""
    own, began = its.m.mean(axis=1), detector.since_when(its)
    order = [int(f) for f in np.argsort(-own, kind="stable") if own[f] >= its.threshold / WATCH]
    return [
        {"name": its.features[f], "evidence": float(own[f]), "direction": detector.direction(its, f, began)}
        for f in order
        if began
    ]
