"""One roll-out is one event, whoever shares it; a scanner that comes new is another; silence of a header is none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from monitoring.vendors.changes import Span, events, sentence, table

DAY = timedelta(days=1)
START = datetime(2026, 3, 1, tzinfo=UTC)


def span(clinic: str, software: str, first: int, last: int, *, scanner: UUID | int = 1, model: str = "Prisma",
         vendor: str = "siemens", studies: int = 5) -> Span:  # fmt: skip
    its = scanner if isinstance(scanner, UUID) else UUID(int=scanner)
    return Span(clinic, its, vendor, model, software, studies, START + first * DAY, START + last * DAY)


FLEET = [
    span("north", "E11", 0, 9), span("north", "XA30", 10, 40),
    span("south", "E11", 0, 14), span("south", "XA30", 15, 40),
    span("west", "E11", 0, 19), span("west", "XA30", 20, 40),
    span("lake", "XA30", 0, 40), span("hill", "MR1", 0, 40, vendor="ge", model="Signa"),
]  # fmt: skip


def test_one_roll_out_in_three_clinics_is_one_event() -> None:
    (event,) = events(FLEET)
    assert (event.kind, event.vendor, event.after, event.since) == (
        "software",
        "siemens",
        "XA30",
        START + 10 * DAY,
    )
    assert [(s.clinic, s.before, s.since) for s in event.clinics] == [
        ("north", "E11", START + 10 * DAY), ("south", "E11", START + 15 * DAY), ("west", "E11", START + 20 * DAY)
    ]  # fmt: skip
    assert event.also_there == ("lake",)
    said = (
        "Siemens software became XA30 in 3 clinics (north, south, west), since 2026-03-11; lake had it before"
    )
    assert sentence(event) == said


def test_a_new_machine_is_a_scanner_event_that_names_the_one_before() -> None:
    fleet = [span("north", "E11", 0, 9), span("north", "DV28", 10, 20, scanner=2, vendor="ge", model="Signa")]
    (event,) = events(fleet)
    assert (event.kind, event.after) == ("scanner", "ge Signa")
    assert event.clinics[0].before == "siemens Prisma"
    assert sentence(event) == "a GE Signa began to send at north, since 2026-03-11"


def test_a_header_without_software_is_no_change() -> None:
    assert events([span("north", "E11", 0, 9), span("north", "?", 10, 20)]) == []
    (event,) = events([span("n", "E11", 0, 9), span("n", "?", 10, 20), span("n", "XA30", 21, 30)])
    assert event.clinics[0].before == "E11"


def test_the_table_says_who_has_it_now() -> None:
    rows = {(r["vendor"], r["software"]): r for r in table(FLEET)}
    assert rows["siemens", "E11"]["now"] == []
    assert rows["siemens", "E11"]["clinics"] == ["north", "south", "west"]
    assert rows["siemens", "XA30"]["now"] == ["lake", "north", "south", "west"]
    assert rows["siemens", "XA30"]["studies"] == 20


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", "3"]), st.integers(0, 50)), max_size=12
    )
)
def test_each_clinic_has_one_change_fewer_than_softwares(found: list[tuple[str, str, int]]) -> None:
    spans = [span(clinic, software, day, day + 1) for (clinic, software), day in
             {(c, s): d for c, s, d in found}.items()]  # fmt: skip
    seen = [s for event in events(spans) for s in event.clinics]
    for clinic in "abc":
        softwares = {s.software for s in spans if s.clinic == clinic}
        assert sum(s.clinic == clinic for s in seen) == max(0, len(softwares) - 1)
    assert len({(e.kind, e.vendor, e.after) for e in events(spans)}) == len(events(spans))
    assert events(spans) == events(list(reversed(spans)))


def test_machines_without_a_serial_are_told_apart_by_model() -> None:
    fleet = [span("n", "1", 0, 5, scanner=uuid4()), span("n", "2", 0, 5, scanner=uuid4())]
    assert events(fleet) == []


def test_a_past_without_serials_makes_no_new_machine() -> None:
    """A table of the past knows the model, and not which of two machines it was."""
    past = replace(span("north", "?", 0, 9), scanner_id=None)
    assert events([past, span("north", "E11", 10, 20)]) == []
    (event,) = events([past, span("north", "DV28", 10, 20, vendor="ge", model="Signa")])
    assert event.after == "ge Signa"
