"""Detector R: ranks each study in the reference of its own scanner group, bets, sums, and flags at most once.

    rank -> normal score -> AR(1) residual -> evidence of each feature, of each beyond the others, of all together,
            of outlying rows
         -> S = their weighted mean -> flag at S >= h

h = studies a year / flags a year that are allowed. What that brings is measured (README): rows that depend on each
other or follow a season flag more often than exchangeable ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum

import numpy as np
from numpy.typing import NDArray

from monitoring.detect import bets, history, outlying, ranks, shape, windows
from monitoring.detect.history import Ranked
from monitoring.detect.ranks import Floats
from monitoring.detect.shape import Shape
from monitoring.detect.since import Since, since, whitened
from monitoring.detect.state import NO_FLAG, WEIGHTS, State, mean

LEAST = 50
"""Rows that a group's reference needs before its rows are ranked, and values that a feature needs in it."""
MOST = 400
"""Rows at which a reference stops growing."""
LAG = 100
"""Ranked rows that must have followed before a row may join its reference."""
HISTORY = 400
"""Latest rows in which the beginning of a change is looked for: what drifts more slowly has no date."""
NEVER = -1
"""In place of its row, of a reference row that was never ranked."""
WATCH = 10
"""From S >= h / 10 the stream is watched, not healthy: its references stop growing."""
DAYS_A_YEAR = 365
SURE, LIKELY = 0.9, 0.5
BEYOND = 3.0
"""What a feature says beyond the others counts up to here: where two say the same, what is left has long tails."""
_WIDER = bets.DIRECTIONS.index("wider")


@dataclass(frozen=True, slots=True)
class Flag:
    """What was known at the row at which S reached the threshold."""

    row: int
    since_row: int
    since_range: tuple[int, int]
    """The first and the last row at which it may have begun, with 90 %."""
    statistic: float
    threshold: float
    features: tuple[str, ...]
    """The first (see ``_order``), and all that moved since then with a chance of nine in ten."""
    certain: bool
    """Whether the first of them moved with that chance too: many weak changes can raise a flag together."""
    direction: dict[str, str]
    also_moving: tuple[str, ...]
    """The next feature, where it is more likely than not to have moved."""
    outlying: tuple[int, int] | None
    """How many rows since then are outlying and of how many, where that is most of S: perhaps only some changed."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Log evidence at each of K places of a possible change: its sums over them are most of what S is the mean of."""

    latest: NDArray[np.bool_]
    """Which features of the last row are known, [F]."""
    own: Floats
    """Of each feature and fixed shift, [K, F, 4]."""
    beyond: Floats
    """Of what each says beyond the others, [K, F, 4]."""
    together: Floats
    """Of all features as one, [K]."""
    outlying: Floats
    """Of more outlying rows, [K]."""


def threshold(studies_a_day: float, flags_a_year: float) -> float:
    """h, in studies: a year's studies for each false flag that the budget allows in a year."""
    return studies_a_day * DAYS_A_YEAR / flags_a_year


def begin(
    features: Sequence[str], reference: Floats, groups: Sequence[str], *, epoch: int, h: float
) -> State:
    """A new epoch from reference rows [N, F] in time order, each with its scanner group; NaN is missing."""
    names = tuple(dict.fromkeys(groups))
    of = [names.index(group) for group in groups]
    scores = ranks.own_scores(reference, of)
    width, n, z = len(features), len(reference), ranks.last_known(scores)
    phi = ranks.autocorrelation(scores, len(names))
    taken = tuple(reference[np.asarray(of) == g] for g in range(len(names)))
    nothing, nowhere = np.empty((0, width)), np.empty(0, dtype=np.int64)
    return State(
        features=tuple(features), groups=names, epoch=epoch, threshold=h, seq=n, flagged=NO_FLAG,
        phi=phi, z=z, m=np.zeros((width, len(bets.DIRECTIONS))), beyond=np.zeros(width), together=0.0, outlying=0.0,
        before=z, history=nothing, history_groups=nowhere,
        left=0, waiting=nothing, waiting_groups=nowhere, waiting_rows=nowhere,
        references=taken, joined=tuple(np.full(len(rows), NEVER) for rows in taken), ranked=None, shape=None,
    )  # fmt: skip


def restarted(state: State, epoch: int, h: float) -> State:
    """The same reference in a new epoch: the sums begin again, and what is said later is new evidence."""
    before = ranks.last_known(np.vstack([state.before, scores(state)]))
    return replace(
        state, epoch=epoch, threshold=h, flagged=NO_FLAG, m=np.zeros_like(state.m),
        beyond=np.zeros_like(state.beyond), together=0.0, outlying=0.0, before=before,
        history=state.history[:0], history_groups=state.history_groups[:0], ranked=None,
    )  # fmt: skip


def is_ranked(state: State, group: str) -> bool:
    """Whether a row of this group would be ranked; before that it only builds the group's reference."""
    return group in state.groups and len(state.references[state.groups.index(group)]) >= LEAST


def step(state: State, study: str, group: str, row: Floats) -> tuple[State, Flag | None]:
    """The state after one study [F], and the flag if it raised one. ``study`` is its identity, for the ties."""
    if group not in state.groups:
        nothing, nowhere = np.empty((0, len(state.features))), np.empty(0, dtype=np.int64)
        state = replace(
            state, groups=(*state.groups, group), references=(*state.references, nothing),
            joined=(*state.joined, nowhere), ranked=None,
        )  # fmt: skip
    if state.ranked is None:
        state = replace(state, ranked=_ranked(state))
    of = state.groups.index(group)
    if not is_ranked(state, group):
        return _kept(_joined(state, of, row, NEVER), of, np.full(len(row), np.nan), state.z, state.m), None
    state = _bet(state, study, of, row)
    statistic = state.statistic
    state = _grown(state, of, row, healthy=state.flagged == NO_FLAG and statistic < state.threshold / WATCH)
    if state.flagged == NO_FLAG and statistic >= state.threshold:
        state = replace(state, flagged=state.seq - 1)
        return state, _flag(state)
    return state, None


def scores(state: State) -> Floats:
    """Normal scores of the latest rows in the references as they are now, [up to 400, F]; NaN where not ranked."""
    return _ranked(state).scores


def since_when(state: State) -> Since | None:
    """When the latest rows began to differ from the reference, by all that is known now."""
    its = state.shape or _shape(state)
    w, known, n = _against(state, its)
    first = state.seq - len(state.history)
    return since(w, known, _beyond(w, its), state.history_groups, n, state.phi, first)


def _bet(state: State, study: str, group: int, row: Floats) -> State:
    """Rank, whiten, bet. A feature that the row or the reference lacks keeps all it has."""
    reference, n = state.references[group], _ranked(state).present[group]
    p = ranks.rank(reference, n, row, ranks.uniforms(study, state.features, state.epoch))
    known = ~np.isnan(p) & (n >= LEAST)
    z = np.where(known, ranks.normal(p), state.z)
    log_e = bets.log_bets(ranks.whiten(z, state.z, state.phi), np.maximum(n, 1).astype(np.float64), state.phi)
    m = state.m.copy()
    m[known, _WIDER] = bets.gather(state.m, log_e)[known, _WIDER]
    return _compared(_kept(state, group, row, z, m))


def _compared(state: State) -> State:
    """The latest rows against those before them, where the last of them is ranked."""
    its = state.shape
    if its is None or its.rows != shape.rows(state.references):
        its = _shape(state)
    found = _places(state, its)
    if found is None:
        return state
    m = state.m.copy()
    m[found.latest, :_WIDER] = windows.summed(found.own)[found.latest]
    return replace(
        state, shape=its, m=m, beyond=windows.summed(found.beyond).mean(axis=1),
        together=float(windows.summed(found.together)), outlying=float(windows.summed(found.outlying)),
    )  # fmt: skip


def _places(state: State, its: Shape) -> Places | None:
    """What the latest rows say against those before them; None where nothing of the last one is ranked."""
    w, known, n = _against(state, its)
    if not known[-1].any():
        return None
    latest, complete = known[-1], bool(known.all())
    there = slice(None) if complete else known.any(axis=1)  # no copy where there is nothing to leave out
    w, known, groups = w[there], known[there], state.history_groups[there]
    rows = np.broadcast_to(n.max(axis=1)[:, None], n.shape)
    wander = windows.WANDER**2 * (1 - state.phi) / (1 + state.phi)
    y, far = shape.whole(its, w[:, its.order])
    places = windows.windows(y, groups, len(n), HISTORY)
    x, mean_wander = np.hstack([w, _beyond(w, its), y]), np.full_like(wander, fsum(wander) / len(wander))
    every = None if complete else np.hstack([known, np.ones((len(w), 2 * w.shape[1]), dtype=np.bool_)])
    shift, worth = windows.compare(
        places, x, every,
        np.hstack([n, rows, rows]), np.hstack([wander, wander, mean_wander]),
    )  # fmt: skip
    whole = slice(2 * w.shape[1], None)
    own, beyond = np.split(windows.location(shift[:, : whole.start], worth[:, : whole.start]), 2, axis=1)
    together = windows.together(shift[:, whole], worth[:, whole])
    often = outlying.evidence(places, far, ~_inside(state)[there], sum(its.rows), together)
    return Places(latest, own, beyond, together, often)


def _ranked(state: State) -> Ranked:
    return state.ranked or history.of(state.history, state.history_groups, state.references, _inside(state))


def _inside(state: State) -> NDArray[np.bool_]:
    """Which lines of the history are reference rows too, [T]."""
    first = state.seq - len(state.history)
    inside = np.zeros(len(state.history), dtype=np.bool_)
    for rows in state.joined:
        inside[rows[np.searchsorted(rows, first) :] - first] = True
    return inside


def _against(state: State, its: Shape) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """The history's whitened scores [T, F] less the mean of all reference rows that are no line of it, 0 where unknown;
    where known; and how many values those reference rows have, [G, F].

    So no row stands on both sides of a comparison.
    """
    its_ranks, inside = _ranked(state), _inside(state)
    ranked, n = its_ranks.scores, its_ranks.present.astype(np.float64)
    w, known = whitened(np.vstack([state.before, ranked]), state.phi)
    known &= (n >= LEAST)[state.history_groups]
    total = np.empty_like(n)
    total[:, its.order] = its.level
    total *= n
    for g in range(len(n)) if inside.any() else ():
        mine = ranked[inside & (state.history_groups == g)]
        total[g] -= np.nansum(mine, axis=0)
        n[g] -= ranks.present(mine)
    level = total / np.maximum(n, 1) * np.sqrt((1 - state.phi) / (1 + state.phi))
    return np.where(known, w - level[state.history_groups], 0.0), known, n


def _shape(state: State) -> Shape:
    return shape.of(state.references, np.argsort(state.features))


def _beyond(w: Floats, its: Shape) -> Floats:
    """What each feature of whitened scores [T, F] says beyond the others, [T, F]."""
    found = np.empty_like(w)
    found[:, its.order] = np.clip(w[:, its.order] @ its.alone, -BEYOND, BEYOND)
    return found


def _kept(state: State, group: int, row: Floats, z: Floats, m: Floats) -> State:
    """Count the row and keep it, and what was bet on it. Of the oldest that goes nothing is left but its scores."""
    lines, of, before = np.vstack([state.history, row]), np.append(state.history_groups, group), state.before
    ranked = _ranked(state)
    if len(lines) > HISTORY:
        lines, of, oldest = lines[1:], of[1:], ranked.scores[0]
        before = np.where(np.isnan(oldest), before, oldest)
    return replace(
        state, seq=state.seq + 1, history=lines, history_groups=of, before=before,
        ranked=history.with_line(ranked, row, group, state.references[group], HISTORY), z=z, m=m,
    )  # fmt: skip


def _grown(state: State, group: int, row: Floats, *, healthy: bool) -> State:
    """Let the row wait, and the one that has waited long enough join, if the stream is healthy now.

    What comes of age while it is not is dropped: a study of doubtful days never becomes what is normal.
    """
    waiting, rows = np.vstack([state.waiting, row]), np.append(state.waiting_rows, state.seq - 1)
    of = np.append(state.waiting_groups, group)
    if len(waiting) <= LAG:
        return replace(state, waiting=waiting, waiting_groups=of, waiting_rows=rows)
    oldest, its, when = waiting[0], int(of[0]), int(rows[0])
    state = replace(
        state, left=state.left + 1, waiting=waiting[1:], waiting_groups=of[1:], waiting_rows=rows[1:]
    )
    return _joined(state, its, oldest, when) if healthy and len(state.references[its]) < MOST else state


def _joined(state: State, group: int, row: Floats, when: int) -> State:
    """With one more row in the reference of its group, and the history ranked among one more."""
    of_it = state.history_groups == group
    at = when - (state.seq - len(state.history))
    if when != NEVER and at >= 0:
        of_it[at] = False
    longer = [np.vstack([r, row]) if g == group else r for g, r in enumerate(state.references)]
    joined = [np.append(rows, when) if g == group else rows for g, rows in enumerate(state.joined)]
    return replace(
        state, references=tuple(longer), joined=tuple(joined),
        ranked=history.with_reference(_ranked(state), state.history, row, group, of_it),
    )  # fmt: skip


def direction(state: State, feature: int, began: Since) -> str:
    """Which way a feature moved since then: up, down or wider."""
    since_then = began.row - (state.seq - len(state.history))
    return bets.direction(state.m[feature], scores(state)[since_then:, feature])


def _order(state: State) -> list[int]:
    """The features by their own log evidence, at each place of a change by how much of S that place makes up.

    In sums over all places one that once moved by chance may lead, and not what moved since.
    """
    found = _places(state, state.shape or _shape(state))
    assert found is not None  # the flagged row itself was ranked
    own, beyond = (windows.finite(e).mean(axis=2) for e in (found.own, found.beyond))
    shares = windows.WEIGHTS[: len(own)] * (
        WEIGHTS["location"] * own.mean(axis=1) + WEIGHTS["beyond"] * beyond.mean(axis=1)
        + WEIGHTS["together"] * windows.finite(found.together) + WEIGHTS["outlying"] * windows.finite(found.outlying)
    )  # fmt: skip
    wider = state.m[:, _WIDER]
    evidence = shares @ np.log(own) + WEIGHTS["wider"] * mean(wider) * np.log1p(wider)
    return [int(f) for f in np.argsort(-evidence, kind="stable")]


def _outlying(state: State, row: int) -> tuple[int, int]:
    """Outlying rows from this one on, and all of them."""
    its = state.shape or _shape(state)
    w, known, _ = _against(state, its)
    since_then = slice(row - state.seq, None)
    there = known[since_then].any(axis=1)
    _, far = shape.whole(its, w[since_then, its.order])
    return int((far & there).sum()), int(there.sum())


def _flag(state: State) -> Flag:
    """Which features, which way, since when: read from the bets since the change."""
    began = since_when(state)
    assert began is not None  # the flagged row itself was ranked
    first, *others = _order(state)
    moved = [first, *(f for f in others if began.moved[f] >= SURE)]
    some = WEIGHTS["outlying"] * state.outlying
    rest = [f for f in others if f not in moved and began.moved[f] >= LIKELY][:1]
    return Flag(
        row=state.flagged, since_row=began.row, since_range=(began.low, began.high),
        statistic=state.statistic, threshold=state.threshold,
        features=tuple(state.features[f] for f in moved), certain=bool(began.moved[first] >= SURE),
        direction={state.features[f]: direction(state, f, began) for f in (*moved, *rest)},
        also_moving=tuple(state.features[f] for f in rest),
        outlying=_outlying(state, began.row) if some > state.statistic / 2 else None,
    )  # fmt: skip
