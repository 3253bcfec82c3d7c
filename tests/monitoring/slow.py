"""Detector R a second time, from its description alone: plain Python, one number at a time, no state but history."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from math import exp, isnan, log, sqrt
from statistics import NormalDist, median

BETS = ("up .5", "down .5", "up 1", "down 1", "wider")
LOCATION = (0.5, -0.5, 1.0, -1.0)
AGES = sorted({*range(1, 12), *(int(12 * 1.12**i) for i in range(25))})
Matrix = list[list[float]]


def quantile(p: float) -> float:
    return NormalDist().inv_cdf(min(max(p, 1e-6), 1 - 1e-6))


def uniform(study: str, feature: str, epoch: int) -> float:
    number = int.from_bytes(
        blake2b(f"{study}\x1f{feature}\x1f{epoch}".encode(), digest_size=8).digest(), "big"
    )
    return (number // 2**11 + 0.5) / 2**53


def e_value(bet: str, w: float, n: int, phi: float) -> float:
    d = 1 / sqrt(n)
    match bet.split():
        case ["wider"]:
            known = sqrt((1 + phi**2) / (1 - phi**2))
            return exp(w * w / 2 * (1 - 1 / 1.6**2)) / (1.6 * (1 + d * known))
        case [side, size]:
            bet_on = float(size) if side == "up" else -float(size)
            return exp(bet_on * w - abs(bet_on) * d - bet_on**2 / 2)
    raise AssertionError(bet)


def mixed(log_e: float, share: float) -> float:
    """Log of the evidence when it counts with this share, and with the rest nothing happened."""
    return log(1 - share + share * exp(log_e)) if log_e < 600 else log(share) + log_e


def inverse(a: Matrix) -> Matrix:
    """By Gauss and Jordan; what is inverted here is positive definite."""
    size = len(a)
    rows = [[*a[i], *(float(i == j) for j in range(size))] for i in range(size)]
    for i in range(size):
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for j in range(size):
            if j != i:
                rows[j] = [x - rows[j][i] * y for x, y in zip(rows[j], rows[i], strict=True)]
    return [row[size:] for row in rows]


def times(a: Matrix, v: Sequence[float]) -> list[float]:
    return [sum(x * y for x, y in zip(row, v, strict=True)) for row in a]


def dot(v: Sequence[float], u: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(v, u, strict=True))


def gram(rows: Sequence[Sequence[float]], width: int) -> Matrix:
    """Sums of products of the rows, and of as many unit rows as there are columns."""
    return [[sum(r[i] * r[j] for r in rows) + width * (i == j) for j in range(width)] for i in range(width)]


def sphere(width: int, far: float) -> float:
    """The mean of exp(far cos) over all directions: a power series."""
    term, total, k = 1.0, 1.0, 0
    while term > total * 1e-17:
        k += 1
        term *= far * far / 4 / (k * (width / 2 + k - 1))
        total += term
    return total


@dataclass
class Shape:
    """What the references say of rows as a whole, each of their own rows measured by the others alone."""

    precision: Matrix
    rms: list[float]
    edge: float

    def length(self, v: Sequence[float]) -> float:
        return sqrt(max(0.0, dot(v, times(self.precision, v))))

    def beyond(self, w: Sequence[float]) -> list[float]:
        found = times(self.precision, w)
        return [
            min(max(x / sqrt(self.precision[f][f]) / self.rms[f], -3.0), 3.0) for f, x in enumerate(found)
        ]


def shape(z: Sequence[Sequence[float]]) -> Shape:
    n, width = len(z), len(z[0])
    whole = gram(z, width)
    lengths, beyond = [], []
    for row in z:
        others = inverse([[whole[i][j] - row[i] * row[j] for j in range(width)] for i in range(width)])
        seen = times(others, row)
        lengths.append((n - 1 + width) * dot(row, seen))
        beyond.append([x / sqrt(others[f][f]) for f, x in enumerate(seen)])
    scale = max(1.0, sum(lengths) / n / width)
    precision = [[x * (n + width) / scale for x in row] for row in inverse(whole)]
    # alone = inverse / sqrt(diagonal): the precision's scale is taken out again
    rms = [sqrt(sum(b[f] ** 2 for b in beyond) / n) * sqrt((n + width) / scale) for f in range(width)]
    at = 0.99 * (n - 1)
    order = sorted(lengths)
    low = order[int(at)]
    high = order[min(int(at) + 1, n - 1)]
    return Shape(precision, rms, sqrt((low + (at - int(at)) * (high - low)) / scale))


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
            found = pairs / max(sum(s * s for s in z), 1e-6)
            means = len(self.reference)
            raw.append(found + (means * (1 + found) + 2 * found) / max(known, 1))
        self.phi = [min(max(0.5 * r + 0.5 * median(raw), 0.0), 0.8) for r in raw]
        self.evidence: dict[str, float] = {"beyond": 0.0, "together": 0.0}
        self.shapes: dict[tuple[int, ...], Shape] = {}
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
            if any((number, f) in self.scores for f in range(len(self.features))):
                self._compare(number)
        width = len(self.features)
        location = sum(v for (_, bet), v in self.sums.items() if bet != "wider") / width / 4
        wider = sum(v for (_, bet), v in self.sums.items() if bet == "wider") / width
        beside = 0.36 * self.evidence["beyond"] + 0.27 * self.evidence["together"]
        self.statistics.append(0.22 * location + 0.05 * wider + beside)
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
        e = e_value("wider", w, len(values), self.phi[f])
        self.sums[f, "wider"] = min((self.sums[f, "wider"] + 1) * e, 1e12)

    def _present(self, group: str, f: int) -> int:
        return sum(not isnan(self.rows[i][f]) for i in self.reference[group])

    def _shape(self) -> Shape:
        """Of the first tens of rows of each group's reference."""
        key = tuple(len(its) // 10 * 10 for its in self.reference.values())
        if key not in self.shapes:
            z = []
            for its, many in zip(self.reference.values(), key, strict=True):
                taken = its[:many]
                columns = []
                for f in range(len(self.features)):
                    values = sorted(self.rows[i][f] for i in taken if not isnan(self.rows[i][f]))
                    columns.append([self._mid(self.rows[i][f], values) for i in taken])
                z += [list(row) for row in zip(*columns, strict=True)]
            self.shapes[key] = shape(z)
        return self.shapes[key]

    def _mid(self, x: float, values: Sequence[float]) -> float:
        return (
            0.0
            if isnan(x)
            else quantile((bisect_left(values, x) + bisect_right(values, x)) / 2 / len(values))
        )

    def _compare(self, number: int) -> None:
        """All the evidence that is read from the latest rows, those of one feature first."""
        scored, width = self._scored(number), len(self.features)
        rows = sorted({row for row, _ in scored})
        w = [[scored.get((row, f), (0.0, 0))[0] for f in range(width)] for row in rows]
        known = [[(row, f) in scored for f in range(width)] for row in rows]
        its = self._shape()
        beyond = [its.beyond(row) for row in w]
        cut = [[x * min(1.0, its.edge / max(its.length(row), its.edge)) for x in row] for row in w]
        spread = self._spread(cut, its)
        wander = [0.09 * (1 - phi) / (1 + phi) for phi in self.phi]
        groups = [self.groups[row] for row in rows]
        sums = {(f, name): 0.0 for f in range(width) for name in BETS[:4]}
        apart, whole, last = dict.fromkeys(sums, 0.0), 0.0, 0
        for age in (age for age in AGES if age <= len(rows)):
            weight, last = age - last, age
            shares = {g: groups[-age:].count(g) / age for g in set(groups[-age:])}
            for f in range(width):
                error = sum(s**2 / max(self._present(g, f), 1) for g, s in shares.items())
                mine = [(row[f], k[f]) for row, k in zip(w, known, strict=True)]
                shift, worth = self._shift(mine, age, error, wander[f], spread)
                for name, bet in zip(BETS[:4], LOCATION, strict=True):
                    sums[f, name] += weight * exp(min(worth * (bet * shift - bet * bet / 2), log(1e12)))
                error = sum(s**2 / len(self.reference[g]) for g, s in shares.items())
                shift, worth = self._shift([(row[f], True) for row in beyond], age, error, wander[f], spread)
                for name, bet in zip(BETS[:4], LOCATION, strict=True):
                    apart[f, name] += weight * exp(min(worth * (bet * shift - bet * bet / 2), log(1e12)))
            mean = sum(wander) / width
            shifts = [
                self._shift([(row[f], True) for row in cut], age, error, mean, spread) for f in range(width)
            ]
            worth = shifts[0][1]
            far = min(worth * its.length([shift for shift, _ in shifts]), 600.0)
            whole += weight * exp(min(log(sphere(width, far)) - worth / 2, log(1e12)))
        for f in range(width):
            if (number, f) in self.scores:
                self.sums |= {(f, name): min(sums[f, name], 1e12) for name in BETS[:4]}
        beyond_all = sum(min(e, 1e12) for e in apart.values()) / len(apart)
        self.evidence = {"beyond": beyond_all, "together": min(whole, 1e12)}

    def _shift(
        self, x: Sequence[tuple[float, bool]], age: int, error: float, wander: float, spread: float
    ) -> tuple[float, float]:
        """How far the rows of this age lie from the level before them, and how many rows that is worth."""
        late = [v for v, there in x[-age:] if there]
        early = [v for v, there in x[:-age] if there]
        filled = len(x) / 200
        had = [max(50.0, 1 / error - back) for back in (age / 2, (age + len(x)) / 2)]
        noise = spread + (1 / had[1] - 1 / had[0]) * len(early)
        weight = (1 - filled) / error + filled / (error + wander) + len(early) / noise
        shift = sum(late) / max(len(late), 1) - sum(early) / noise / weight
        return shift, 1 / (spread / max(len(late), 1) + 1 / weight)

    def _spread(self, cut: Sequence[Sequence[float]], its: Shape) -> float:
        blocks, width = len(cut) // 16, len(self.features)
        if blocks < 6:
            return 1.0
        rows = cut[len(cut) - blocks * 16 :]
        means = [
            [sum(r[f] for r in rows[16 * b : 16 * b + 16]) / 16 for f in range(width)] for b in range(blocks)
        ]
        apart = sorted(
            its.length([x - y for x, y in zip(b, a, strict=True)]) ** 2 / width * 8
            for a, b in pairwise(means)
        )
        return max(1.0, 1.05 * sum(apart[:-1]) / (len(apart) - 1))

    def _judge(self, number: int) -> None:
        statistic = self.statistics[-1]
        if self.flag is None and statistic >= self.h:
            self.flag = self._flag(number)
        if len(self.ranked) > 60 and self.flag is None and statistic < self.h / 10:
            joining = self.ranked[-61]
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
                    found[row, f] = (w, self._present(self.groups[row], f))
                before = z
        return found

    def _since(self, number: int) -> tuple[int, int, int]:
        """The likeliest row of the change and its 90 % range."""
        scored, width = self._scored(number), len(self.features)
        rows = sorted({row for row, _ in scored})
        its = self._shape()
        beyond = {row: its.beyond([scored.get((row, f), (0.0, 0))[0] for f in range(width)]) for row in rows}
        own, both = self._evidence(scored, rows, None), self._evidence(scored, rows, beyond)
        together = {row: sum(mixed(both[row, f], 1 / width) for f in range(width)) for row in rows}
        best = max(rows, key=together.__getitem__)
        sure = [exp(own[best, f] - mixed(own[best, f], 1 / width)) / width for f in range(width)]
        self.sure = sure
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

    def _evidence(
        self, scored: dict[tuple[int, int], tuple[float, int]], rows: Sequence[int],
        beyond: dict[int, list[float]] | None,
    ) -> dict[tuple[int, int], float]:  # fmt: skip
        """Log of the mean of all bets from each row on; with ``beyond``, those on that too."""
        found = {}
        for f in range(len(self.features)):
            sums = [0.0] * (len(BETS) * (2 if beyond else 1))
            for row in reversed(rows):
                if (row, f) in scored:
                    w, n = scored[row, f]
                    seen = [w, beyond[row][f]] if beyond else [w]
                    logs = [log(e_value(bet, x, n, self.phi[f])) for x in seen for bet in BETS]
                    sums = [a + b for a, b in zip(sums, logs, strict=True)]
                top = max(sums)
                found[row, f] = log(sum(exp(s - top) for s in sums) / len(sums)) + top
        return found

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
        since, low, high = self._since(number)
        own = [sum(self.sums[f, b] for b in BETS) for f in range(len(self.features))]
        first = max(range(len(own)), key=own.__getitem__)
        moved = {first, *(f for f in range(len(own)) if self.sure[f] >= 0.9)}
        rest = sorted(
            (f for f in range(len(own)) if f not in moved and self.sure[f] >= 0.5), key=lambda f: -own[f]
        )
        return {
            "row": number,
            "since_row": since,
            "since_range": (low, high),
            "features": {self.features[f] for f in moved},
            "certain": self.sure[first] >= 0.9,
            "direction": {self.features[f]: self._direction(f) for f in (*moved, *rest[:1])},
        }

    def _direction(self, f: int) -> str:
        up = max(self.sums[f, b] for b in BETS if b.startswith("up"))
        down = max(self.sums[f, b] for b in BETS if b.startswith("down"))
        if self.sums[f, "wider"] > 10 * max(up, down):
            return "wider"
        return "up" if up >= down else "down"
