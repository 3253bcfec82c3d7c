"""Detector R a second time, from its description alone: plain Python, one number at a time, no state but history."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from math import exp, isnan, log, sqrt
from statistics import NormalDist, median

BETS = ("up .5", "down .5", "up 1", "down 1", "wider", "up tail", "down tail")


def quantile(p: float) -> float:
    return NormalDist().inv_cdf(min(max(p, 1e-6), 1 - 1e-6))


def uniform(study: str, feature: str, epoch: int) -> float:
    number = int.from_bytes(
        blake2b(f"{study}\x1f{feature}\x1f{epoch}".encode(), digest_size=8).digest(), "big"
    )
    return (number // 2**11 + 0.5) / 2**53


def e_value(bet: str, w: float, n: int) -> float:
    d = 1 / sqrt(n)
    match bet.split():
        case ["up", "tail"]:
            return (0.9 + 2 * (w > 1.645)) / (1 + 0.45 * d)
        case ["down", "tail"]:
            return (0.9 + 2 * (w < -1.645)) / (1 + 0.45 * d)
        case ["wider"]:
            return exp(w * w / 2 * (1 - 1 / 1.6**2)) / (1.6 * (1 + d))
        case [side, size]:
            bet_on = float(size) if side == "up" else -float(size)
            return exp(bet_on * w - abs(bet_on) * d - bet_on**2 / 2)
    raise AssertionError(bet)


def mixed(log_e: float, share: float) -> float:
    """Log of the evidence when it counts with this share, and with the rest nothing happened."""
    return log(1 - share + share * exp(log_e)) if log_e < 600 else log(share) + log_e


@dataclass
class Slow:
    """One stream: every row that it ever saw, and what it thought after each."""

    features: Sequence[str]
    h: float
    rows: list[Sequence[float]]
    groups: list[str]
    epoch: int = 1
    statistics: list[float] = field(default_factory=list)
    flag: dict[str, object] | None = None

    def __post_init__(self) -> None:
        n0, self.begun = len(self.rows), len(self.rows)
        self.reference: dict[str, list[int]] = {}
        for i, group in enumerate(self.groups):
            self.reference.setdefault(group, []).append(i)
        scores = {f: [self._middle(i, f) for i in range(n0)] for f in range(len(self.features))}
        raw = []
        for f in scores:
            z = [0.0 if s is None else s for s in scores[f]]
            known = sum(s is not None for s in scores[f])
            pairs = sum(a * b for a, b in pairwise(z))
            raw.append(pairs / max(sum(s * s for s in z), 1e-6) + 1.5 / max(known, 1))
        self.phi = [min(max(0.5 * r + 0.5 * median(raw), 0.0), 0.8) for r in raw]
        self.z = [next((s for s in reversed(scores[f]) if s is not None), 0.0) for f in scores]
        self.sums = {(f, b): 0.0 for f in scores for b in BETS}
        self.first_z = list(self.z)
        self.scores: dict[tuple[int, int], float] = {}
        self.ranked: list[int] = []

    def _values(self, group: str, f: int) -> list[float]:
        found: list[float] = []
        for i in self.reference[group]:
            if not isnan(self.rows[i][f]):
                insort(found, self.rows[i][f])
        return found

    def _middle(self, i: int, f: int) -> float | None:
        x = self.rows[i][f]
        if isnan(x):
            return None
        values = self._values(self.groups[i], f)
        return NormalDist().inv_cdf((bisect_left(values, x) + bisect_right(values, x)) / 2 / len(values))

    def see(self, row: Sequence[float], group: str) -> None:
        number = len(self.rows)
        self.rows.append(row)
        self.groups.append(group)
        its = self.reference.setdefault(group, [])
        if len(its) < 50:
            its.append(number)
        else:
            for f in range(len(self.features)):
                self._bet(number, f)
            self.ranked.append(number)
        self.statistics.append(sum(self.sums.values()) / len(self.sums))
        if self.ranked[-1:] == [number]:
            self._judge(number)

    def _bet(self, number: int, f: int) -> None:
        x, values = self.rows[number][f], self._values(self.groups[number], f)
        if isnan(x) or len(values) < 50:
            return
        below, equal = bisect_left(values, x), bisect_right(values, x) - bisect_left(values, x)
        u = uniform(str(number), self.features[f], self.epoch)
        z = quantile((below + u * (1 + equal)) / (len(values) + 1))
        w = (z - self.phi[f] * self.z[f]) / sqrt(1 - self.phi[f] ** 2)
        self.z[f] = self.scores[number, f] = z
        for bet in BETS:
            e = e_value(bet, w, len(values))
            self.sums[f, bet] = min((self.sums[f, bet] + 1) * e, 1e12)

    def _judge(self, number: int) -> None:
        statistic = self.statistics[-1]
        if self.flag is None and statistic >= self.h:
            self.flag = self._flag(number)
        if len(self.ranked) > 30 and self.flag is None and statistic < self.h / 10:
            joining = self.ranked[-31]
            its = self.reference[self.groups[joining]]
            if len(its) < 400:
                its.append(joining)

    def _scored(self, number: int) -> dict[tuple[int, int], tuple[float, int]]:
        """(row, feature) -> whitened score and size of its reference, of the latest 200 rows up to ``number``."""
        found = {}
        for f in range(len(self.features)):
            before = self.first_z[f]
            for row in range(self.begun, number + 1):
                z = self.scores.get((row, f))
                if z is None:
                    continue
                if row > number - 200:
                    w = (z - self.phi[f] * before) / sqrt(1 - self.phi[f] ** 2)
                    found[row, f] = (w, len(self._values(self.groups[row], f)))
                before = z
        return found

    def _since(self, number: int) -> tuple[int, int, int]:
        """The likeliest row of the change and its 90 % range."""
        scored, width = self._scored(number), len(self.features)
        rows = sorted({row for row, _ in scored})
        own: dict[tuple[int, int], float] = {}
        for f in range(width):
            sums = dict.fromkeys(BETS, 0.0)
            for row in reversed(rows):
                if (row, f) in scored:
                    for bet in BETS:
                        sums[bet] += log(e_value(bet, *scored[row, f]))
                own[row, f] = log(sum(exp(s - max(sums.values())) for s in sums.values()) / 7) + max(
                    sums.values()
                )
        moved = {key: mixed(value, 1 / width) for key, value in own.items()}
        together = {row: sum(moved[row, f] for f in range(width)) for row in rows}
        best = max(rows, key=together.__getitem__)
        sure = [exp(own[best, f] - moved[best, f]) / width for f in range(width)]
        shared = self._shared(scored, best, number, sure)
        weight = {row: exp((together[row] - together[best]) / shared) for row in rows}
        total, low, high = 0.0, 0, 0
        for row in reversed(
            rows
        ):  # from behind, so that the last one set is the first that reaches the share
            above = 1 - total / sum(weight.values())
            low, high = (row if above >= 0.05 else low), (row if above >= 0.95 else high)
            total += weight[row]
        return best, min(low, best), max(high, best)

    def _shared(
        self, scored: dict[tuple[int, int], tuple[float, int]], best: int, number: int, sure: Sequence[float]
    ) -> float:
        """Variance of the moved features' sum, over that of features that go their own ways."""
        unit: dict[tuple[int, int], float] = {}
        sides = []
        for f, certain in enumerate(sure):
            mine = {row: w for (row, g), (w, _) in scored.items() if g == f}
            after = [w for row, w in mine.items() if row >= best]
            shift = sum(after) / max(len(after), 1)
            rest = {row: w - (shift if row >= best else 0.0) for row, w in mine.items()}
            size = sqrt(max(sum(r * r for r in rest.values()), 1e-12))
            sides.append(certain * ((shift > 0) - (shift < 0)))
            unit |= {(row, f): sides[f] * r / size for row, r in rest.items()}
        sums = [
            sum(unit.get((row, f), 0.0) for f in range(len(sure))) for row in range(self.begun, number + 1)
        ]
        alone = sum(s * s for s in sides)
        return max(1.0, sum(s * s for s in sums) / alone) if alone > 0 else 1.0

    def _flag(self, number: int) -> dict[str, object]:
        own = [sum(self.sums[f, b] for b in BETS) / len(BETS) for f in range(len(self.features))]
        moved = {f for f in range(len(own)) if own[f] >= self.h / 2}
        since, low, high = self._since(number)
        return {
            "row": number,
            "since_row": since,
            "since_range": (low, high),
            "features": {self.features[f] for f in moved},
            "direction": {self.features[f]: self._direction(f) for f in moved},
        }

    def _direction(self, f: int) -> str:
        up = max(self.sums[f, b] for b in BETS if b.startswith("up"))
        down = max(self.sums[f, b] for b in BETS if b.startswith("down"))
        if self.sums[f, "wider"] > 10 * max(up, down):
            return "wider"
        return "up" if up >= down else "down"
