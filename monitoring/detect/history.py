"""The latest rows, each ranked among the reference of its group as that is now, itself left out.

A rank that was taken in a reference of fifty rows is not one in a hundred: when a reference grows all ranks move a
little, and rows that were ranked before and after would differ though nothing changed. So all are ranked anew.
By mid-ranks: what features say together is lost where ties among them are broken by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.detect import ranks
from monitoring.detect.ranks import Counts, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Of every line and feature of a history, [T, F]."""

    below: Counts
    """Reference values below it, counted twice, and once those that equal it."""
    among: Counts
    """Reference values that it was compared with."""
    scores: Floats
    """Normal scores of the mid-ranks, NaN where a value is missing."""
    present: Counts
    """And the values of each group's reference, [G, F]."""


def of(lines: Floats, groups: Counts, references: Sequence[Floats], inside: NDArray[np.bool_]) -> Ranked:
    """The ranks of lines [T, F]; those ``inside`` [T] are rows of their reference too."""
    present = np.array([ranks.present(reference) for reference in references])
    below = np.zeros(lines.shape, dtype=np.int64)
    for g, reference in enumerate(references):
        mine = groups == g
        for f, column in enumerate(reference.T):
            values = np.sort(column[~np.isnan(column)])
            below[mine, f] = sum(np.searchsorted(values, lines[mine, f], side=s) for s in ("left", "right"))
    itself, among = inside[:, None] & ~np.isnan(lines), present[groups]
    below, among = below - itself, among - itself
    return Ranked(below, among, _scores(lines, below, among), present)


def with_line(its: Ranked, line: Floats, group: int, reference: Floats, most: int) -> Ranked:
    """One more line [F] of this group at the end; of more than ``most`` the first goes."""
    first = max(0, len(its.scores) + 1 - most)
    below, among = _compared(reference, line).sum(axis=0), its.present[group]
    return Ranked(
        np.vstack([its.below[first:], below]), np.vstack([its.among[first:], among]),
        np.vstack([its.scores[first:], _scores(line, below, among)]), its.present,
    )  # fmt: skip


def with_reference(its: Ranked, lines: Floats, row: Floats, group: int, of_it: NDArray[np.bool_]) -> Ranked:
    """One more reference row [F] of a group, compared with the lines ``of_it`` [T]: the group's, but for itself."""
    there, present = ~np.isnan(row), its.present.copy()
    present[group] += there
    below, among = its.below + _compared(row, lines) * of_it[:, None], its.among + (of_it[:, None] & there)
    return Ranked(below, among, _scores(lines, below, among), present)


def _compared(reference: Floats, lines: Floats) -> Counts:
    return (reference < lines).astype(np.int64) + (reference <= lines)


def _scores(lines: Floats, below: Counts, among: Counts) -> Floats:
    p = np.clip((below + 1) / (2 * (among + 1)), ranks.EDGE, 1 - ranks.EDGE)
    return np.where(np.isnan(lines), np.nan, ranks.normal(p))
