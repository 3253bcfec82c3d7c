"""What the rules read in reports. Every sentence here is made up by us: none is a patient's, none of a real report."""

import random
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.reviews import narrative
from serving.reviews.narrative import Says, says

PRESENT, ABSENT, UNCLEAR = Says.PRESENT, Says.ABSENT, Says.UNCLEAR
SENTENCES = {
    # affirmed
    "Multiple periventricular T2 hyperintense lesions.": PRESENT,
    "There are several demyelinating plaques in the white matter": PRESENT,
    "A single focal lesion is seen in the left centrum semiovale.": PRESENT,
    "Scattered foci of T2/FLAIR hyperintensity.": PRESENT,
    "Stable lesion load since the last scan.": PRESENT,
    "The known lesions are unchanged.": PRESENT,
    "Multiple T2 lesions without contrast enhancement.": PRESENT,
    "Non-enhancing plaques next to the ventricles.": PRESENT,
    "No infarct, multiple white matter lesions.": PRESENT,
    "There is no atrophy and there are a few T2 lesions.": PRESENT,
    "No new lesions, but multiple old plaques.": PRESENT,
    "No lesions apart from a single plaque.": PRESENT,
    "Several white matter lesions, atrophy is not seen.": PRESENT,
    "Multiple Marklagerläsionen beidseits.": PRESENT,
    "Zahlreiche Entmarkungsherde periventrikulär.": PRESENT,
    "Unveränderter Nachweis der bekannten Herde.": PRESENT,
    "Die Läsionen reichern kein Kontrastmittel an.": PRESENT,
    "Keine Ischämie, mehrere FLAIR-hyperintense Läsionen.": PRESENT,
    "Keine neuen Herde, jedoch zahlreiche alte Plaques.": PRESENT,
    "Hyperintensitäten im Marklager ca. 5 mm groß.": PRESENT,
    "Herdförmige Signalsteigerungen im Balken.": PRESENT,
    "Kein Nachweis neuer Läsionen bei bekannten Marklagerläsionen.": PRESENT,
    "The white matter is unremarkable, multiple lesions in the pons.": PRESENT,
    # denied
    "Brain MRI is normal.": ABSENT,
    "No white matter lesions.": ABSENT,
    "No evidence of demyelination.": ABSENT,
    "There are no T2 or FLAIR hyperintensities.": ABSENT,
    "The brain is free of lesions.": ABSENT,
    "White matter lesions are not seen.": ABSENT,
    "Demyelinating plaques: none.": ABSENT,
    "The scan does not show any plaques.": ABSENT,
    "No haemorrhage, mass effect or demyelinating lesion.": ABSENT,
    "No supratentorial or infratentorial lesions.": ABSENT,
    "The white matter is unremarkable.": ABSENT,
    "Keine Marklagerläsionen.": ABSENT,
    "Kein Anhalt für eine Demyelinisierung.": ABSENT,
    "Kein Nachweis von Herden oder Plaques.": ABSENT,
    "Läsionen finden sich nicht.": ABSENT,
    "Demyelinisierungsherde sind nicht nachweisbar.": ABSENT,
    "Läsionen: keine": ABSENT,
    "Unauffälliges Marklager.": ABSENT,
    "Regelrechtes Parenchym ohne Herdbefund, ohne Läsionen.": ABSENT,
    # only the new, the active or a place is denied
    "No new lesions.": UNCLEAR,
    "No enhancing lesions.": UNCLEAR,
    "No new or enlarging T2 lesions.": UNCLEAR,
    "No change in the lesions.": UNCLEAR,
    "No lesions with enhancement.": UNCLEAR,
    "New lesions are not seen.": UNCLEAR,
    "No infratentorial lesions.": UNCLEAR,
    "No lesions in the brainstem.": UNCLEAR,
    "Keine neuen Läsionen.": UNCLEAR,
    "Keine KM-aufnehmenden Herde.": UNCLEAR,
    "Keine Läsionen im Hirnstamm.": UNCLEAR,
    "Keine Größenzunahme der Herde.": UNCLEAR,
    "The previously described lesion is no longer seen.": UNCLEAR,
    "Nicht mehr nachweisbare Läsion.": UNCLEAR,
    "Keine MS-typischen Läsionen.": UNCLEAR,
    "The left frontal white matter is normal.": UNCLEAR,
    # hedged
    "Possible demyelinating lesion.": UNCLEAR,
    "A small plaque cannot be excluded.": UNCLEAR,
    "Questionable focus, questionable lesion.": UNCLEAR,
    "No definite lesions.": UNCLEAR,
    "Fragliche Läsion links.": UNCLEAR,
    "Eine Läsion ist nicht auszuschließen.": UNCLEAR,
    "V. a. Entmarkungsherd.": UNCLEAR,
    "Möglicherweise kleiner Herd.": UNCLEAR,
    "MS-Plaques?": UNCLEAR,
    # asked, known before, of another kind, or nothing
    "History of MS lesions.": UNCLEAR,
    "Indication: follow-up of demyelinating lesions.": UNCLEAR,
    "Fragestellung: Läsionen progredient?": UNCLEAR,
    "Klinik: bekannte Entmarkungsherde.": UNCLEAR,
    "Zum Ausschluss von Läsionen.": UNCLEAR,
    "No mass lesion.": UNCLEAR,
    "A bone lesion of the skull.": UNCLEAR,
    "A cervical cord lesion.": UNCLEAR,
    "Normal ventricles.": UNCLEAR,
    "": UNCLEAR,
}  # fmt: skip
REPORTS = {
    "Indication: known MS. Lesions before. Findings: No white matter lesions. Normal ventricles.": ABSENT,
    "Klinik: Z. n. Läsionen. Befund: Multiple Herde. Beurteilung: Keine neuen Läsionen.": PRESENT,
    "Clinical history: MS lesions. No white matter lesions are seen.": ABSENT,
    "No lesions. Impression: one plaque in the left frontal white matter.": PRESENT,
    "No lesions. A possible plaque on the left.": UNCLEAR,
    "No lesions. No enhancing lesions. No mass.": ABSENT,
    "Findings:\n - no infarct\n - several plaques\n - no enhancement": PRESENT,
}


@pytest.mark.parametrize(("text", "expected"), (SENTENCES | REPORTS).items(), ids=lambda it: str(it)[:60])
def test_a_sentence_says(text: str, expected: Says) -> None:
    assert says(text) is expected


def _wrong() -> list[str]:
    return [text for text, expected in (SENTENCES | REPORTS).items() if says(text) is not expected]


NEVER = re.compile(r"(?!)")
MUTANTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "forgets negation before the term": ("_BEFORE", lambda _: NEVER),
    "forgets negation after the term": ("_AFTER", lambda _: NEVER),
    "takes no new lesions for no lesions": ("_LIMITED", lambda _: NEVER),
    "takes a place for the whole": ("_LOCAL", lambda _: NEVER),
    "forgets that a negation ends": ("_ENDS", lambda _: NEVER),
    "believes a hedge": ("_HEDGE", lambda _: NEVER),
    "reads what was asked": ("_ASKED", lambda _: NEVER),
    "reads the indication": ("_HEADING", lambda _: NEVER),
    "finds what is gone": ("_GONE", lambda _: NEVER),
    "believes no normal white matter": ("_WELL", lambda _: NEVER),
    "takes any lesion": ("_OTHER", lambda _: NEVER),
    "looks outside of the brain": ("_OUTSIDE", lambda _: NEVER),
    "reads a sentence as one clause": ("_CLAUSES", lambda _: NEVER),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants: each rule that is taken away gives a wrong answer for some sentence of the table."""
    name, fault = MUTANTS[mutant]
    assert _wrong() == []
    monkeypatch.setattr(narrative, name, fault(getattr(narrative, name)))
    assert _wrong()


WHOLE = [text for text in SENTENCES if text.endswith(".") and ":" not in text]


@given(st.lists(st.sampled_from(WHOLE), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_order_case_and_blanks_change_nothing(sentences: list[str], rng: random.Random) -> None:
    first = says(" ".join(sentences))
    rng.shuffle(sentences)
    blanks = [" ", "  ", "\n", "\t", "\r\n\r\n", "\u00a0"]
    changed = "".join(
        rng.choice(blanks) if letter == " " else rng.choice((letter.upper(), letter.lower()))
        for letter in " ".join(sentences)
    )
    assert says(changed) is first


@given(st.text(max_size=300))
def test_no_text_raises(text: str) -> None:
    assert says(text) in Says


PIECES = (
    "no ",
    "lesion",
    "kein ",
    ", ",
    ". ",
    "?",
    ":",
    " and ",
    "indication:",
    "findings:",
    "\n",
    "not seen",
    "ß",
    "\x00",
)


@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_no_heap_of_its_own_words_raises(pieces: list[str]) -> None:
    assert says("".join(pieces)) in Says


def test_a_long_text_takes_no_long_time() -> None:
    """The bound of a report, filled with what could make a rule look back; whole, it took two seconds each."""
    began = time.process_time()
    for piece in ("no ", "not a ", "lesion ", "a", "findings: ", "no lesions and ", "nicht sicher "):
        assert says(piece * (20_000 // len(piece))) in Says
        assert says((piece * 30 + ". ") * (20_000 // (len(piece) * 30 + 2))) in Says
    assert time.process_time() - began < 5
