"""A clinic's past comes in as a table, once, and nothing of a bad table is stored."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.errors import ClinicUnknown, NoBinding
from serving.studies import history
from serving.studies.errors import HistoryUnreadable
from tests.kit.world import DIGEST_A, World

HEAD = "at,vendor,field_t,sequence_class,snr_wm,efc"
ROWS = [
    "2026-01-01T08:00:00+00:00,siemens,3,FLAIR,12.5,0.61",
    "2026-01-02T08:00:00+00:00,siemens,3,FLAIR,,0.63",
]


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes lines to a file."""

    def write(*lines: str) -> Path:
        path = tmp_path / "past.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def test_rows_become_ended_studies_of_the_bound_version(world: World, table: Callable[..., Path]) -> None:
    world.version()
    world.bind(world.clinic("north"))
    rows = history.read(table(HEAD, *ROWS))
    database = world.db.database
    assert history.take(database, "north", "brain-extraction", rows, simulated=True) == 2
    assert history.take(database, "north", "brain-extraction", rows, simulated=True) == 0
    found = world.sql("select profile, values, digest, at::date::text from serving.feature_v order by seq")
    profile = {"vendor": "siemens", "model": "scanner (simulated)", "field_t": 3.0, "sequence_class": "FLAIR"}
    assert found == [
        (profile, {"snr_wm": 12.5, "efc": 0.61}, DIGEST_A, "2026-01-01"),
        (profile, {"snr_wm": None, "efc": 0.63}, DIGEST_A, "2026-01-02"),
    ]
    assert world.sql("select state from serving.study") == [("past",)] * 2
    assert world.sql("select count(*) from serving.outcome_v") == [(0,)], "nobody here answered them"
    assert world.sql("select count(*) from serving.stuck_v") == [(0,)]


def test_a_packed_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "past.csv.gz"
    path.write_bytes(gzip.compress("\n".join([HEAD, *ROWS]).encode()))
    assert len(history.read(path)) == 2


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([], "needs the columns"),
        ([HEAD], "0 rows"),
        (["at,snr_wm", "2026-01-01T08:00:00Z,1"], "needs the columns"),
        ([HEAD + ",PatientName", ROWS[0] + ",Secret^Person"], "nothing is known of: PatientName"),
        ([HEAD + ",efc", ROWS[0] + ",1"], "each column once"),
        ([HEAD, ROWS[0].replace("+00:00", "")], "row 0: column at"),
        ([HEAD, ROWS[0].replace("12.5", "Secret^Person")], "row 0: column snr_wm is no finite number"),
        ([HEAD, ROWS[0].replace("12.5", "inf")], "row 0: column snr_wm is no finite number"),
        ([HEAD, ROWS[0] + ",1"], "row 0 has 7 cells"),
        ([HEAD, *reversed(ROWS)], "not in the order"),
    ],
)
def test_a_bad_table_is_refused_by_row_and_column_and_shows_no_cell(
    table: Callable[..., Path], lines: list[str], what: str
) -> None:
    with pytest.raises(HistoryUnreadable, match=what) as caught:
        history.read(table(*lines))
    assert "Secret" not in str(caught.value)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "past.csv.gz"
    packed.write_bytes(gzip.compress(b"at")[:-6])
    for path in (packed, tmp_path / "none.csv"):
        with pytest.raises(HistoryUnreadable, match="missing, damaged"):
            history.read(path)


def test_a_past_needs_a_clinic_and_a_version(world: World, table: Callable[..., Path]) -> None:
    rows = history.read(table(HEAD, *ROWS))
    with pytest.raises(ClinicUnknown):
        history.take(world.db.database, "north", "brain-extraction", rows, simulated=True)
    world.clinic("north")
    with pytest.raises(NoBinding):
        history.take(world.db.database, "north", "brain-extraction", rows, simulated=True)
    assert world.sql("select count(*) from serving.study") == [(0,)]
