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
        self.logs: dict[tuple[int, str], list[tuple[int, float]]] = {key: [] for key in self.sums}
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
        self.z[f] = z
        for bet in BETS:
            e = e_value(bet, w, len(values))
            self.sums[f, bet] = min((self.sums[f, bet] + 1) * e, 1e12)
            self.logs[f, bet].append((number, log(e)))

    def _judge(self, number: int) -> None:
        statistic = self.statistics[-1]
        if self.flag is None and statistic >= self.h:
            self.flag = self._flag(number)
        if len(self.ranked) > 30 and self.flag is None and statistic < self.h / 10:
            joining = self.ranked[-31]
            its = self.reference[self.groups[joining]]
            if len(its) < 400:
                its.append(joining)

    def _since(self, key: tuple[int, str], number: int) -> int:
        """The first row after the last at which the running sum of logs, kept above 0, was 0."""
        total, zero = 0.0, self.begun - 1
        logs = dict(self.logs[key])
        for row in range(self.begun, number + 1):
            total = max(0.0, total + logs.get(row, 0.0))
            zero = row if total == 0.0 else zero
        return zero + 1

    def _flag(self, number: int) -> dict[str, object]:
        own = [sum(self.sums[f, b] for b in BETS) / len(BETS) for f in range(len(self.features))]
        moved = {f for f in range(len(own)) if own[f] >= self.h / 2}
        best = max(self.sums, key=self.sums.__getitem__)
        return {
            "row": number,
            "since_row": self._since(best, number),
            "features": {self.features[f] for f in moved},
            "direction": {self.features[f]: self._direction(f) for f in moved},
        }

    def _direction(self, f: int) -> str:
        up = max(self.sums[f, b] for b in BETS if b.startswith("up"))
        down = max(self.sums[f, b] for b in BETS if b.startswith("down"))
        if self.sums[f, "wider"] > 10 * max(up, down):
            return "wider"
        return "up" if up >= down else "down"
