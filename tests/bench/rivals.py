"""Rivals beside R on the very same streams: at their own thresholds, and at the one that keeps 1 a year on that null.

The matched threshold is an oracle's: it is read from the quiet streams that it is judged by, and nobody has it.
River's detectors have no curve, so they stand at their defaults alone. Rivals are not told which scanner a study came
from, because none asks; R is, from the header, and stands a second time without it. At a reference of 50 from two
scanners R builds each scanner's reference to 50 first, and what it watches counts from row 50 as for all.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Final

from monitoring.detect.ranks import Floats
from tests.bench import grid, peers, rules
from tests.bench.grid import AR, BEFORE, IID, YEAR, rate, spread

SETTINGS: Final = ((IID, 50), (IID, 200), (AR, 50), (AR, 200))
CHANGES: Final = (
    "1 sd on 1 of 20", "1 sd on 5 of 20", "0.5 sd on 5 of 20", "20 % from a new scanner, 2 sd on 10",
    "ramp to 2 sd on 5",
)  # fmt: skip
POOLED: Final = "R, scanners not told"
CHUNK: Final = 10
"""Streams that one process gives to river's at once."""


def beside(
    pool: Executor,
    seed: int,
    streams: int,
    years: int,
    settings: Sequence[tuple[str, int]] = SETTINGS,
    changes: Sequence[str] = CHANGES,
) -> dict[str, Any]:
    """Of each setting, each rival: false alarms a year, and of each change what it finds and when."""
    peers.environment("peers", peers.PEERS["river"])  # before processes would make it at once
    asked = {where: _ask(pool, seed, *where, streams, years, changes) for where in settings}
    return {f"{kind}, reference {n}": _answer(asked[kind, n]) for kind, n in settings}


def _draw(seed: int, kind: str, n: int, change: str, number: int) -> tuple[Floats, list[str]]:
    return grid.changed(seed, kind, n, change, number) if change else grid.quiet(seed, kind, n, number)


def _curves(seed: int, kind: str, n: int, change: str, number: int) -> dict[str, Floats]:
    values, groups = _draw(seed, kind, n, change, number)
    found = {name: rule.curve(values, n) for name, rule in rules.RULES.items()}
    if len(set(groups)) > 1:
        found |= {POOLED: found["R"], "R": rules.r(values, n, groups)}
    return found


def _river(seed: int, kind: str, n: int, change: str, numbers: Sequence[int]) -> Any:
    return peers.river([_draw(seed, kind, n, change, i)[0] for i in numbers], n)


Asked = dict[str, tuple[Any, list[Future[Any]]]]


def _ask(
    pool: Executor, seed: int, kind: str, n: int, streams: int, years: int, changes: Sequence[str]
) -> Asked:
    """By change, "" for none: the curves of each stream, and river's answers, chunk by chunk."""
    found: Asked = {}
    for change in ("", *changes):
        many = streams if change else years
        curves = pool.map(partial(_curves, seed, kind, n, change), range(many), chunksize=2)
        chunks = [range(i, min(i + CHUNK, many)) for i in range(0, many, CHUNK)]
        found[change] = (curves, [pool.submit(_river, seed, kind, n, change, chunk) for chunk in chunks])
    return found


def _answer(asked: Asked) -> dict[str, Any]:
    curves = {change: list(many) for change, (many, _) in asked.items()}
    found: dict[str, Any] = {}
    for name in curves[""][0]:
        rule = rules.RULES.get(name, rules.RULES["R"])
        levels = {"own": rule.threshold, "matched": rules.matched([c[name] for c in curves[""]])}
        found[name] = {"source": rule.source} | {
            word: {"threshold": level}
            | _judged(
                {change: [rules.first(c[name], level) for c in many] for change, many in curves.items()}
            )
            for word, level in levels.items()
            if level is not None
        }
    rivers = {change: [one.result() for one in chunks] for change, (_, chunks) in asked.items()}
    away = next((one for chunks in rivers.values() for one in chunks if isinstance(one, str)), None)
    if away:
        return found | {"river": away}
    for name in peers.RIVERS:
        firsts = {change: [f for one in chunks for f in one[name]] for change, chunks in rivers.items()}
        found[f"river {name}"] = {"source": "the library at its defaults", "own": _judged(firsts)}
    return found


def _judged(firsts: Mapping[str, Sequence[int | None]]) -> dict[str, Any]:
    """First alarms by change, "" for none: the rate, and delays of alarms that came after the change."""
    found = {}
    for change, many in firsts.items():
        if not change:
            continue
        late = [first - BEFORE for first in many if first is not None and first > BEFORE]
        early = sum(first is not None and first <= BEFORE for first in many)
        found[change] = spread(late, len(many) - early) | {"flagged_before_the_change": early}
    return {"false_a_year": rate([(first or YEAR, first) for first in firsts[""]]), "changes": found}


def agreement(seed: int, streams: int, *, all_of_them: bool) -> dict[str, bool | str]:
    """Whether the real libraries say what our short rules of theirs say, on a few streams; at least Evidently."""
    some = [grid.changed(seed, IID, 200, "1 sd on 5 of 20", i)[0] for i in range(streams)]
    found = {"Evidently": peers.evidently_agrees(some, 200)}
    return found | peers.others_agree(some, 200) if all_of_them else found
