"""A drift is likened to a protocol setting only where its pattern is that setting's and no other's."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from monitoring.streams import responses

Sizes = Mapping[str, Mapping[str, float]]
SETTINGS = [
    (sequence, words, size)
    for sequence, its in responses.table().items()
    for words, sizes in its.items()
    for size in sizes
]


def of(sequence: str, words: str) -> dict[str, float]:
    """The largest simulated response of a setting."""
    return dict(list(responses.table()[sequence][words].values())[-1])


def said(shift: Mapping[str, float], sequence: str) -> str | None:
    like = responses.likeness(shift, sequence)
    return like.words if like else None


def clear() -> list[tuple[str, str]]:
    """Sequence and response of every setting that is named when it is seen as it stands in the table."""
    return [(s, w) for s, w in sorted({(s, w) for s, w, _ in SETTINGS}) if said(of(s, w), s)]


def test_the_table_has_both_sequences_and_what_can_be_said() -> None:
    assert set(responses.table()) == {"T1", "FLAIR"}
    for its in responses.table().values():
        assert set(responses.NAMED) <= set(its)
    assert len(clear()) >= 5


@pytest.mark.parametrize(("sequence", "words", "size"), SETTINGS)
def test_no_response_is_named_as_another(sequence: str, words: str, size: str) -> None:
    """What a machine alone does is never named. Mutant: the words of a setting in place of another's."""
    found = said(responses.table()[sequence][words][size], sequence)
    assert found is None or words == found


def test_the_opposite_is_not_named_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for sequence, words in clear():
        opposite = {f: -z for f, z in of(sequence, words).items()}
        assert said(opposite, sequence) != said(of(sequence, words), sequence)
    real = responses.cosines
    monkeypatch.setattr(responses, "cosines", lambda *a: {w: abs(c) for w, c in real(*a).items()})
    assert any(
        said({f: -z for f, z in of(s, w).items()}, s) == said(of(s, w), s) for s, w in clear()
    )  # mutant: sign


def test_noise_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    drawn = [
        (s, dict(zip(of(s, w), rng.normal(0, 1, len(of(s, w))).tolist(), strict=True)))
        for s, w in clear()
        for _ in range(40)
    ]
    assert not any(said(shift, sequence) for sequence, shift in drawn)
    monkeypatch.setattr(responses, "BOUND", 0.0)
    assert any(said(shift, sequence) for sequence, shift in drawn)  # mutant: no bound


def test_half_of_each_of_two_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two unlike responses the margin is what keeps silent; a made-up table makes them equally near."""
    one = {f"f{n}": 1.0 + 0.2 * (n % 2) for n in range(8)}
    two = {f"f{n}": 1.2 - 0.2 * (n % 2) for n in range(8)}
    made: dict[str, dict[str, Sizes]] = {
        "T1": {"a longer echo time": {"1": one}, "a longer inversion time": {"1": two}}
    }
    monkeypatch.setattr(responses, "table", lambda: made)
    between: dict[str, float] = {f: one[f] + two[f] for f in one}
    assert said(between, "T1") is None
    monkeypatch.setattr(responses, "MARGIN", 0.0)
    assert said(between, "T1") is not None  # mutant: no margin


def test_few_features_weak_responses_and_other_sequences_are_not_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sequence, words = clear()[0]
    response: dict[str, Any] = of(sequence, words)
    strongest = sorted(response, key=lambda f: -abs(response[f]))
    assert said({f: response[f] for f in strongest[:5]}, sequence) is None
    assert said(response, "T2") is None
    assert said({}, sequence) is None
    assert said(dict.fromkeys(response, 0.0), sequence) is None
    monkeypatch.setattr(responses, "WEAK", 100.0)
    assert said(response, sequence) is None


def test_a_feature_that_the_table_does_not_know_says_nothing() -> None:
    for sequence, words in clear():
        response = of(sequence, words)
        assert responses.likeness(response | {"lesion_ml": 9.0}, sequence) == responses.likeness(
            response, sequence
        )
