"""Pictures of numbers as SVG coordinates: pure, printable, without JavaScript; templates/parts.html draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SPARK_WIDTH, SPARK_HEIGHT = 120, 28
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 230, 52, 712, 26, 196


@dataclass(frozen=True, slots=True)
class Spark:
    """``points`` of a polyline; ``bar``: the height of the threshold, above which a flag is raised."""

    points: str
    bar: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Series:
    """One value a study: ``dots`` are (x, y, after the change); ``band`` (y, height) is the reference's middle 90 %."""

    dots: tuple[tuple[float, float, bool], ...]
    band: tuple[float, float] | None
    change: float | None
    ticks: tuple[tuple[float, str], ...]
    sentence: str


def spark(statistic: Sequence[float], threshold: float | None) -> Spark | None:
    """The drift statistic of the last studies on a logarithmic scale: a tenth of a decade is as high everywhere.

    None for fewer than two studies: a line needs two.
    """
    if len(statistic) < 2 or not threshold or threshold <= 1:
        return None
    top = math.log10(max(threshold * 10, *statistic))
    heights = [max(0.0, math.log10(max(value, 1.0))) / top for value in statistic]
    step = SPARK_WIDTH / (len(heights) - 1)
    room = SPARK_HEIGHT - 4
    points = " ".join(f"{n * step:.1f},{2 + room * (1 - h):.1f}" for n, h in enumerate(heights))
    bar = 2 + room * (1 - math.log10(threshold) / top)
    side = "at or above" if statistic[-1] >= threshold else "below"
    now = f"now {statistic[-1]:.3g}, {side} its threshold {threshold:g}"
    return Spark(points, round(bar, 1), f"drift statistic of the last {len(statistic)} studies, {now}")


def series(
    values: Sequence[float | None], reference: Sequence[float], change: int | None, name: str
) -> Series | None:
    """One feature per study, in order; ``change`` is the index of the first study after the change.

    ``reference`` are the values that count as normal. None where no value can be drawn.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    normal = sorted(value for value in reference if math.isfinite(value))
    low, high = min([*known, *normal[:1]]), max([*known, *normal[-1:]])
    span = (high - low) or abs(high) or 1.0
    low, high = low - 0.06 * span, high + 0.06 * span

    def y(value: float) -> float:
        return round(BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP), 1)

    def x(index: float) -> float:
        return round(LEFT + index / max(1, len(values) - 1) * (RIGHT - LEFT), 1)

    dots = tuple(
        (x(n), y(value), change is not None and n >= change)
        for n, value in enumerate(values)
        if value is not None and math.isfinite(value)
    )
    band = None
    if len(normal) >= 20:
        below, above = normal[int(0.05 * len(normal))], normal[int(0.95 * (len(normal) - 1))]
        band = (y(above), round(max(1.0, y(below) - y(above)), 1))
    ticks = tuple((y(value), f"{value:.3g}") for value in (known and (min(known), max(known))))
    where = "" if change is None else f", change before study {change + 1}"
    sentence = f"{name} of {len(known)} studies in order{where}; the reference has {len(normal)} studies"
    return Series(dots, band, None if change is None else x(change - 0.5), ticks, sentence)
