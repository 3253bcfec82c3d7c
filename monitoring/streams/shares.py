"""How a clinic's budget of false flags is shared: fixed beforehand, so that all that may flag by chance spends it once.

A clinic states how many flags a year chance may raise. A sum that reaches h once in h studies by chance, with h =
studies a year / (share x budget), spends its share of the budget; together they spend no more than the whole,
however they hang together. Drift's part is shared again, equally by the clinic's streams.
"""

from typing import Final

PARTS: Final = {"drift": 10, "missing": 1, "volume": 1}
"""Drift keeps nearly all: its delay grows with the logarithm of h, which is a fifth larger than it were alone."""


def share(part: str, budget: float) -> float:
    """Flags a year that chance may raise in one part, of ``budget`` in all."""
    return budget * PARTS[part] / sum(PARTS.values())
