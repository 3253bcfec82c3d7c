"""The algebra of the detector's slow twin: matrices as lists, one number at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma, log, sqrt
from statistics import NormalDist

Matrix = list[list[float]]


def quantile(p: float) -> float:
    return NormalDist().inv_cdf(min(max(p, 1e-6), 1 - 1e-6))


def capped(log_e: float) -> float:
    return exp(min(log_e, log(1e12)))


def lbeta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


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
    at = 0.98 * (n - 1)
    order = sorted(lengths)
    low = order[int(at)]
    high = order[min(int(at) + 1, n - 1)]
    return Shape(precision, rms, sqrt((low + (at - int(at)) * (high - low)) / scale))
