"""Detector R a second time, from its description alone: plain Python, one number at a time, no state but history."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from math import exp, isnan, log, sqrt
from statistics import median

from tests.monitoring.slow_shape import Shape, capped, lbeta, quantile, shape, sphere

BETS = ("up .5", "down .5", "up 1", "down 1", "wider")
LOCATION = (0.5, -0.5, 1.0, -1.0)
AGES = sorted({*range(1, 12), *(int(12 * 1.12**i) for i in range(25))})
Scored = dict[tuple[int, int], tuple[float, int]]
"""(row, feature) -> whitened score, less the level, and how many reference values that level is known from."""


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
        self.values: dict[tuple[str, int], list[float]] = {}
        self.counted: dict[tuple[str, int], int] = {}
        for i, group in enumerate(self.groups):
            self.reference.setdefault(group, []).append(i)
        scores = {
            f: [self._mid(self.rows[i][f], self._values(self.groups[i], f)) for i in range(n0)]
            for f in range(len(self.features))
        }
        raw = []
        for f in scores:
            z = [0.0 if s is None else s for s in scores[f]]
            known = sum(s is not None for s in scores[f])
            pairs = sum(a * b for a, b in pairwise(z))
            found = pairs / max(sum(s * s for s in z), 1e-6)
            means = len(self.reference)
            raw.append(found + (means * (1 + found) + 2 * found) / max(known, 1))
        self.phi = [min(max(0.5 * r + 0.5 * median(raw), 0.0), 0.8) for r in raw]
        self.together = self.outlying = 0.0
        self.beyond = [0.0] * len(self.features)
        self.shapes: dict[tuple[int, ...], tuple[Shape, dict[tuple[str, int], float]]] = {}
        self.z = [next((s for s in reversed(scores[f]) if s is not None), 0.0) for f in scores]
        self.sums = {(f, b): 0.0 for f in scores for b in BETS}
        self.before = list(self.z)
        self.ranked: list[int] = []
        self.joined: set[int] = set()

    def _values(self, group: str, f: int) -> list[float]:
        """Known reference values in order: of the group's first so many rows the same for ever."""
        found = self.values.setdefault((group, f), [])
        seen = self.counted.get((group, f), 0)
        for i in self.reference[group][seen:]:
            if not isnan(self.rows[i][f]):
                insort(found, self.rows[i][f])
        self.counted[group, f] = len(self.reference[group])
        return found

    def see(self, row: Sequence[float], group: str) -> None:
        number, width = len(self.rows), len(self.features)
        self.rows.append(row)
        self.groups.append(group)
        its = self.reference.setdefault(group, [])
        if building := len(its) < 50:
            its.append(number)
        self._forget(number - 400)
        if not building:
            for f in range(width):
                self._bet(number, f)
            self.ranked.append(number)
            self._compare(number)
        location = sum(v for (_, bet), v in self.sums.items() if bet != "wider") / width / 4
        wider = sum(v for (_, bet), v in self.sums.items() if bet == "wider") / width
        self.statistics.append(
            0.22 * location
            + 0.04 * wider
            + 0.38 * sum(self.beyond) / width
            + 0.26 * self.together
            + 0.1 * self.outlying
        )
        if not building:
            self._judge(number)

    def _forget(self, row: int) -> None:
        """Of a row that leaves the history nothing is left but its scores."""
        if row in self.ranked:
            for f in range(len(self.features)):
                if (z := self._score(row, f)) is not None:
                    self.before[f] = z

    def _score(self, row: int, f: int) -> float | None:
        """By the mid-rank in the reference as it is now, itself left out."""
        x, values = self.rows[row][f], self._values(self.groups[row], f)
        if isnan(x):
            return None
        below = bisect_left(values, x) + bisect_right(values, x) - (row in self.joined)
        return quantile((below + 1) / 2 / (len(values) - (row in self.joined) + 1))

    def _bet(self, number: int, f: int) -> None:
        x, values = self.rows[number][f], self._values(self.groups[number], f)
        if isnan(x) or len(values) < 50:
            return
        below, equal = bisect_left(values, x), bisect_right(values, x) - bisect_left(values, x)
        u = uniform(str(number), self.features[f], self.epoch)
        z = quantile((below + u * (1 + equal)) / (len(values) + 1))
        w = (z - self.phi[f] * self.z[f]) / sqrt(1 - self.phi[f] ** 2)
        self.z[f] = z
        e = e_value("wider", w, len(values), self.phi[f])
        self.sums[f, "wider"] = min((self.sums[f, "wider"] + 1) * e, 1e12)

    def _present(self, group: str, f: int) -> int:
        return len(self._values(group, f))

    def _shape(self) -> tuple[Shape, dict[tuple[str, int], float]]:
        """Of the first tens of rows of each group's reference, and the mean score of each of their features."""
        key = tuple(len(its) // 10 * 10 for its in self.reference.values())
        if key not in self.shapes:
            z, level = [], {}
            for (group, its), many in zip(self.reference.items(), key, strict=True):
                columns = []
                for f in range(len(self.features)):
                    values = sorted(self.rows[i][f] for i in its[:many] if not isnan(self.rows[i][f]))
                    column = [self._mid(self.rows[i][f], values) for i in its[:many]]
                    known = [x for x in column if x is not None]
                    level[group, f] = sum(known) / max(len(known), 1)
                    columns.append([0.0 if x is None else x - level[group, f] for x in column])
                z += [list(row) for row in zip(*columns, strict=True)]
            self.shapes[key] = (shape(z), level)
        return self.shapes[key]

    def _mid(self, x: float, values: Sequence[float]) -> float | None:
        if isnan(x):
            return None
        return quantile((bisect_left(values, x) + bisect_right(values, x)) / 2 / len(values))

    def _compare(self, number: int) -> None:
        """All the evidence that is read from the latest rows, those of one feature first."""
        scored, width = self._scored(number), len(self.features)
        rows = sorted({row for row, _ in scored})
        if number not in rows:
            return
        w = [[scored.get((row, f), (0.0, 0))[0] for f in range(width)] for row in rows]
        known = [[(row, f) in scored for f in range(width)] for row in rows]
        its, _ = self._shape()
        beyond = [its.beyond(row) for row in w]
        cut = [[x * min(1.0, its.edge / max(its.length(row), its.edge)) for x in row] for row in w]
        spread = self._spread(cut, its)
        wander = [0.09 * (1 - phi) / (1 + phi) for phi in self.phi]
        groups = [self.groups[row] for row in rows]
        sums = {(f, name): 0.0 for f in range(width) for name in BETS[:4]}
        apart, whole, often, last = dict.fromkeys(sums, 0.0), 0.0, 0.0, 0
        far_out = [(row, its.length(scores) > its.edge) for row, scores in zip(rows, w, strict=True)]
        self.named = [0.0] * width
        for age in (age for age in AGES if age <= len(rows)):
            weight, last = age - last, age
            shares = {g: groups[-age:].count(g) / age for g in set(groups[-age:])}
            own: dict[tuple[int, str], float] = {}
            beside: dict[tuple[int, str], float] = {}
            for f in range(width):
                error = sum(s**2 / max(self._outside(g, f), 1) for g, s in shares.items())
                mine = [(row[f], k[f]) for row, k in zip(w, known, strict=True)]
                own |= self._shifted(f, self._shift(mine, age, error, wander[f], spread))
                error = sum(s**2 / max(self._outside(g, f) for f in range(width)) for g, s in shares.items())
                mine = [(row[f], True) for row in beyond]
                beside |= self._shifted(f, self._shift(mine, age, error, wander[f], spread))
            mean = sum(wander) / width
            shifts = [
                self._shift([(row[f], True) for row in cut], age, error, mean, spread) for f in range(width)
            ]
            worth = shifts[0][1]
            far = min(worth * its.length([shift for shift, _ in shifts]), 600.0)
            moved = log(sphere(width, far)) - worth / 2
            more = self._more(far_out, age, spread) + 0.7 * moved
            sums = {key: sums[key] + weight * e for key, e in own.items()}
            apart = {key: apart[key] + weight * e for key, e in beside.items()}
            whole += weight * capped(moved)
            often += weight * capped(more)
            share = 0.22 * sum(own.values()) / width / 4 + 0.38 * sum(beside.values()) / width / 4
            share += 0.26 * capped(moved) + 0.1 * capped(more)
            for f in range(width):
                self.named[f] += weight * share * log(sum(own[f, name] for name in BETS[:4]) / 4)
        for f in range(width):
            if (number, f) in scored:
                self.sums |= {(f, name): min(sums[f, name], 1e12) for name in BETS[:4]}
        self.beyond = [sum(min(apart[f, name], 1e12) for name in BETS[:4]) / 4 for f in range(width)]
        self.together, self.outlying = min(whole, 1e12), min(often, 1e12)

    def _shifted(self, f: int, seen: tuple[float, float]) -> dict[tuple[int, str], float]:
        shift, worth = seen
        return {
            (f, name): capped(worth * (bet * shift - bet * bet / 2))
            for name, bet in zip(BETS[:4], LOCATION, strict=True)
        }

    def _more(self, rows: Sequence[tuple[int, bool]], age: int, spread: float) -> float:
        """Log evidence that rows are outlying more often since this age, a reference's own rows not counted."""
        late = [far for row, far in rows[-age:] if row not in self.joined]
        early = [far for row, far in rows[:-age] if row not in self.joined]
        rows_of_it = sum(len(its) // 10 * 10 for its in self.reference.values())
        n = rows_of_it * 100 / (rows_of_it + 100)
        a, b = 0.02 * n + sum(early) / spread, 0.98 * n + (len(early) - sum(early)) / spread
        many, rest = sum(late) / spread, (len(late) - sum(late)) / spread
        chance = lbeta(a + many, b + rest) - lbeta(a, b)
        rates = [a / (a + b) + more * b / (a + b) for more in (0.1, 0.2, 0.4)]
        return log(sum(exp(many * log(p) + rest * log(1 - p) - chance) for p in rates) / 3)

    def _inside(self, group: str, f: int) -> list[float]:
        """Scores of reference rows that are in the history too."""
        first = len(self.rows) - 400
        mine = [row for row in self.joined if row >= first and self.groups[row] == group]
        return [z for row in mine if (z := self._score(row, f)) is not None]

    def _outside(self, group: str, f: int) -> int:
        return self._present(group, f) - len(self._inside(group, f))

    def _shift(
        self, x: Sequence[tuple[float, bool]], age: int, error: float, wander: float, spread: float
    ) -> tuple[float, float]:
        """How far the rows of this age lie from the level before them, and how many rows that is worth."""
        late = [v for v, there in x[-age:] if there]
        early = [v for v, there in x[:-age] if there]
        filled = len(x) / 400
        weight = (1 - filled) / error + filled / (error + wander) + len(early) / spread
        shift = sum(late) / max(len(late), 1) - sum(early) / spread / weight
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
        if len(self.ranked) > 100 and self.flag is None and statistic < self.h / 10:
            joining = self.ranked[-101]
            its = self.reference[self.groups[joining]]
            if len(its) < 400:
                its.append(joining)
                self.joined.add(joining)

    def _scored(self, number: int) -> Scored:
        """All that is known of the latest 400 rows up to ``number``."""
        found, (_, levels) = {}, self._shape()
        for f in range(len(self.features)):
            phi, before = self.phi[f], self.before[f]
            level, n = {}, {}
            for g in self.reference:
                inside = self._inside(g, f)
                n[g] = self._present(g, f) - len(inside)
                total = levels[g, f] * self._present(g, f) - sum(inside)
                level[g] = total / max(n[g], 1) * sqrt((1 - phi) / (1 + phi))
            for row in self.ranked:
                if row <= number - 400 or (z := self._score(row, f)) is None:
                    continue
                group = self.groups[row]
                if self._present(group, f) >= 50:
                    found[row, f] = ((z - phi * before) / sqrt(1 - phi**2) - level[group], n[group])
                before = z
        return found

    def _since(self, number: int) -> tuple[int, int, int]:
        """The likeliest row of the change and its 90 % range."""
        scored, width = self._scored(number), len(self.features)
        rows = sorted({row for row, _ in scored})
        its, _ = self._shape()
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
        self, scored: Scored, rows: Sequence[int],
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

    def _shared(self, scored: Scored, best: int, number: int, sure: Sequence[float]) -> float:
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
        width = len(self.features)
        wider = [self.sums[f, "wider"] for f in range(width)]
        own = [self.named[f] + 0.04 * sum(wider) / width * log(1 + wider[f]) for f in range(width)]
        first = max(range(width), key=own.__getitem__)
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
            "direction": {self.features[f]: self._direction(f, since) for f in (*moved, *rest[:1])},
        }

    def _direction(self, f: int, since: int) -> str:
        up = max(self.sums[f, b] for b in BETS if b.startswith("up"))
        down = max(self.sums[f, b] for b in BETS if b.startswith("down"))
        z = [z for row in self.ranked if row >= since and (z := self._score(row, f)) is not None]
        mean = sum(z) / len(z)
        apart = sum((x - mean) ** 2 for x in z) / len(z) > mean**2
        if apart and self.sums[f, "wider"] > 10 * max(up, down):
            return "wider"
        return "up" if up >= down else "down"
