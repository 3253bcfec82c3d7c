"""One vendor key for every spelling seen in real headers."""

import csv
from pathlib import Path

import pytest

from registry import vendors

# Where the list made by eye is wrong: a GE ultrasound spelling, and templates that nobody filled in.
CORRECTED = {
    "G.E. Medical Systems": vendors.GE,
    "Manufacturer name here": vendors.UNKNOWN,
    "MyManufacturer": vendors.UNKNOWN,
    "debug": vendors.UNKNOWN,
}


def spellings(tests_data: Path) -> list[dict[str, str]]:
    with (tests_data / "vendors" / "manufacturer_spellings.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_every_collected_spelling(tests_data: Path) -> None:
    rows = spellings(tests_data)
    assert len(rows) > 100
    for row in rows:
        written = row["manufacturer_as_written"]
        wanted = CORRECTED.get(written, row["suggested_vendor_key"])
        assert vendors.vendor_key(written) == wanted, written


@pytest.mark.parametrize(
    ("written", "key"),
    [
        (None, vendors.UNKNOWN),
        ("  ", vendors.UNKNOWN),
        ("SIEMENS HEALTHINEERS", vendors.SIEMENS),
        ("Siemens-Healthcare\0", vendors.SIEMENS),
        ("G.E. MEDICAL SYSTEMS", vendors.GE),
        ("GE HealthCare", vendors.GE),
        ("General Electric Company", vendors.GE),
        ("GEMS", vendors.GE),
        ("Philips Healthcare", vendors.PHILIPS),
        ("Marconi Medical Systems", vendors.PHILIPS),
        ("Canon Medical Systems Corporation", vendors.CANON),
        ("TOSHIBA_MEC_MR3", vendors.CANON),
        ("United Imaging Healthcare Co., Ltd.", vendors.UIH),
        ("Hitachi Medical Corporation", vendors.HITACHI),
        ("FUJIFILM Healthcare Corporation", vendors.FUJI),
        ("Hyperfine, Inc.", vendors.HYPERFINE),
        ("Georgia Imaging", vendors.OTHER),
        ("Agfa-Gevaert", vendors.OTHER),
        ("联影", vendors.OTHER),
    ],
)
def test_spellings_nobody_collected(written: str | None, key: str) -> None:
    assert vendors.vendor_key(written) == key
    assert key in vendors.KEYS


@pytest.mark.parametrize(
    ("text", "as_people_write"),
    [
        ("siemens", "Siemens"),
        ("ge MR750", "GE MR750"),
        ("other Phantom 3000", "Phantom 3000"),
        ("unknown", "unknown"),
        ("no scanner yet", "no scanner yet"),
    ],
)
def test_a_key_is_written_as_people_do(text: str, as_people_write: str) -> None:
    assert vendors.written(text) == as_people_write


def test_every_key_has_a_name_or_is_left_out() -> None:
    for key in vendors.KEYS:
        named = vendors.written(f"{key} Model").removesuffix("Model").strip()
        assert (named == "") == (key in (vendors.OTHER, vendors.UNKNOWN))
        assert vendors.vendor_key(named) == key or not named
