"""The replay of a table: what it prints, what it exits with, and what it refuses by name."""

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from monitoring.detect import replay as replays
from monitoring.detect import table as tables
from monitoring.errors import OrderUnusable, TableMissing
from registry import cli
from tests.monitoring.slow import Slow

Run = Callable[..., tuple[int, str, str]]
N, AT = 160, 120
FAR_OFF = "Mon, 1 Jan 99999999999999999999 00:00:00 GMT"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``radfleet monitor replay``: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def go(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["monitor", "replay", *map(str, words)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return go


def rows(shift: float = 0.0, seed: int = 4) -> list[dict[str, object]]:
    """A clinic's history: three features, two scanners, a date, one column each that may not be used."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, object]] = []
    for i in range(N):
        snr, cnr, blur = rng.standard_normal(3)
        moved = shift if i >= AT else 0.0
        found.append({
            "date": f"2026-{1 + i // 28:02}-{1 + i % 28:02}", "number": i, "scanner": "A" if i % 2 else "B",
            "snr": snr + moved, "cnr": 3 + cnr, "blur": blur, "note": f"Kanarie {i}", "same": 7, "none": "n/a",
            "sparse": blur if i % 3 == 0 else "",
        })  # fmt: skip
    return found


def save(path: Path, table: Sequence[dict[str, object]], separator: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(table)
    return path


def test_a_shift_is_flagged_with_row_feature_and_way(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "t.csv", rows(shift=3))
    code, out, err = run(path, "--columns", "snr,cnr,blur", "--reference", 80, "--json")
    found = json.loads(out)
    assert (code, err, found["n"], found["ranked"]) == (6, "", N, N - 80)
    (flag,) = found["flags"]
    assert set(flag) >= {"row", "since_row", "statistic", "threshold", "features", "direction"}
    assert AT < flag["row"] <= AT + 15 and abs(flag["since_row"] - AT) <= 3
    assert flag["threshold"] == 3650 <= flag["statistic"]
    assert flag["features"] == ["snr"] and flag["direction"] == {"snr": "up"}
    code, out, _ = run(path, "--columns", "snr,cnr,blur", "--reference", 80)
    lines = out.splitlines()
    assert code == 6 and lines[0].startswith(f"Flagged at row {flag['row']}: snr moved, since about row")
    assert lines[1].split()[:2] == ["column", "moved"]
    assert [line.split() for line in lines[2:]] == [["snr", "up", "0"], ["cnr", "-", "0"], ["blur", "-", "0"]]


def test_no_shift_is_quiet(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "t.csv", rows())
    code, out, _ = run(path, "--columns", "snr,cnr,blur", "--reference", 80, "--json")
    assert (code, json.loads(out)["flags"], json.loads(out)["acquisition_changed"]) == (0, [], [])
    code, out, _ = run(path, "--columns", "snr,cnr,blur", "--reference", 80)
    assert code == 0 and out.startswith("Quiet: 80 of 80 rows after the reference were ranked")


def test_one_answer_in_every_form_of_the_table(run: Run, tmp_path: Path) -> None:
    """CSV, TSV, semicolons, gzip under any name, byte-order mark, Windows line ends: the very same bytes."""
    made = rows(shift=3)
    plain = save(tmp_path / "t.csv", made)
    forms = [plain, save(tmp_path / "t.tsv", made, "\t"), save(tmp_path / "semicolon.csv", made, ";")]
    for name, data in (
        ("t.csv.gz", gzip.compress(plain.read_bytes())),
        ("packed", gzip.compress(plain.read_bytes())),
        ("bom.csv", b"\xef\xbb\xbf" + plain.read_bytes()),
        ("unix.csv", plain.read_bytes().replace(b"\r\n", b"\n")),
    ):
        (tmp_path / name).write_bytes(data)
        forms.append(tmp_path / name)
    words = ("--columns", "snr,cnr", "--reference", 80, "--json")
    (answer,) = {run(path, *words) for path in forms}
    assert answer[0] == 6


@pytest.mark.parametrize("column", ["date", "number"])
def test_order_sorts_rows_before_they_are_counted(column: str, run: Run, tmp_path: Path) -> None:
    made = rows(shift=3)
    words = ("--columns", "snr,cnr", "--reference", 80, "--json")
    straight = run(save(tmp_path / "t.csv", made), *words)
    mixed = [made[i] for i in np.random.default_rng(1).permutation(N)]
    assert straight[0] == 6
    assert run(save(tmp_path / "mixed.csv", mixed), *words, "--order", column) == straight


def test_order_keeps_equal_rows_and_refuses_a_mixture(tmp_path: Path) -> None:
    def table(*cells: str) -> tables.Table:
        return tables.Table(("t", "at"), tuple((cell, str(i)) for i, cell in enumerate(cells)))

    assert table("2", "10", "2", "1").sorted_by("t").text("at") == ["3", "0", "2", "1"]
    assert table("17:09:53.5", "09:00:00").sorted_by("t").text("at") == ["1", "0"]
    assert table("Thu, 24 Aug 2017 21:58:35 GMT", "Wed, 02 Aug 2017 21:58:35 GMT").sorted_by("t").text(
        "at"
    ) == ["1", "0"]
    for cells in (
        ("2", "one"),
        ("2", ""),
        ("2026-01-01", "2026-01-01T00:00:00Z"),
        ("24/08/2017", "25/08/2017"),
    ):
        with pytest.raises(OrderUnusable):
            table(*cells).sorted_by("t")


def test_scanners_are_ranked_in_their_own_reference(run: Run, tmp_path: Path) -> None:
    """Two scanners far apart, the later rows of one alone: a change of mixture, not of either scanner."""
    made = rows()
    for row in made:
        row["snr"] = float(str(row["snr"])) + (5 if row["scanner"] == "A" else 0)
    later = [row for row in rows(seed=5) if row["scanner"] == "B"]
    path = save(tmp_path / "t.csv", made + later)
    words = ("--columns", "snr,cnr,blur", "--reference", N, "--json")
    assert run(path, *words)[0] == 6
    code, out, _ = run(path, *words, "--group", "scanner")
    assert code == 0 and [g["ranked"] for g in json.loads(out)["groups"]] == [len(later), 0]


def test_a_new_scanner_is_an_event_of_its_own(run: Run, tmp_path: Path) -> None:
    made = rows()
    for row in made[AT:]:
        row["scanner"] = "new"
    path = save(tmp_path / "t.csv", made)
    words = (path, "--columns", "snr,cnr", "--reference", 110, "--group", "scanner")
    code, out, _ = run(*words, "--json")
    found = json.loads(out)
    assert (code, found["flags"], found["acquisition_changed"]) == (6, [], [{"row": AT, "group": "new"}])
    assert found["ranked"] == AT - 110, "forty rows of a new group only build its reference"
    assert f"The acquisition changed at row {AT}: new is new." in run(*words)[1]


def test_what_was_not_seen_is_said(run: Run, tmp_path: Path) -> None:
    """A column that falls silent after the reference, and rows with no value at all, are no quiet ones."""
    made = rows()
    for row in made[AT:]:
        row["cnr"] = ""
    for row in made[-10:]:
        row["snr"] = "n/a"
    path = save(tmp_path / "t.csv", made)
    code, out, _ = run(path, "--columns", "snr, cnr", "--reference", 80, "--json")
    found = json.loads(out)
    assert (code, found["ranked"], found["missing"]) == (0, N - 80 - 10, {"snr": 10, "cnr": N - AT})


def test_budget_and_studies_a_day_make_the_threshold(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "t.csv", rows(shift=3))
    words = (path, "--columns", "snr", "--reference", 80, "--json")
    _, out, _ = run(*words, "--per-day", 4, "--budget", 0.5)
    assert json.loads(out)["threshold"] == 4 * 365 / 0.5


def test_the_replay_is_the_slow_twin(tmp_path: Path) -> None:
    made = rows(shift=2)
    table = tables.read(save(tmp_path / "t.csv", made))
    done = replays.replay(table, ["snr", "sparse", "blur"], 155, group=None, h=100)
    values = [[float(row[f] if row[f] != "" else "nan") for f in ("snr", "sparse", "blur")] for row in made]  # type: ignore[arg-type]
    slow = Slow(("snr", "sparse", "blur"), 100, values[:155], [""] * 155)
    for row in values[155:]:
        slow.see(row, "")
    assert done.state.statistic == pytest.approx(slow.statistics[-1], rel=1e-9)


GOOD = ("--columns", "snr,cnr", "--reference", 80)
REFUSED = {
    "unknown column": (("--columns", "snr,snrr", "--reference", 80), 3, "monitoring.column_unknown", "snrr"),
    "text column": (("--columns", "snr,note", "--reference", 80), 2, "monitoring.column_not_numeric", "column note"),
    "constant column": (("--columns", "snr,same", "--reference", 80), 2, "monitoring.column_constant", "same"),
    "all missing": (("--columns", "snr,none", "--reference", 80), 2, "monitoring.column_empty", "none"),
    "sparse column": (("--columns", "snr,sparse", "--reference", 80), 2, "monitoring.reference_unfit", "at most 27"),
    "reference too small": (("--columns", "snr", "--reference", 49), 2, "monitoring.reference_unfit", "49 of 160"),
    "reference negative": (("--columns", "snr", "--reference", -1), 2, "monitoring.reference_unfit", "-1 of 160"),
    "reference is all": (("--columns", "snr", "--reference", N), 2, "monitoring.reference_unfit", "160 of 160"),
    "groups too small": ((*GOOD, "--group", "scanner"), 2, "monitoring.reference_unfit", "at most 40"),
    "unknown group": ((*GOOD, "--group", "site"), 3, "monitoring.column_unknown", "site"),
    "unknown order": ((*GOOD, "--order", "when"), 3, "monitoring.column_unknown", "when"),
    "unusable order": ((*GOOD, "--order", "note"), 2, "monitoring.order_unusable", "note"),
    "no budget": ((*GOOD, "--budget", 0), 2, "monitoring.budget_unfit", ""),
    "no flag ever": ((*GOOD, "--budget", 1e-9), 2, "monitoring.budget_unfit", "1e-09 flags a year"),
    "no studies": ((*GOOD, "--per-day", "nan"), 2, "monitoring.budget_unfit", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_has_a_name_and_a_cure(case: str, run: Run, tmp_path: Path) -> None:
    words, exit_code, name, said = REFUSED[case]
    code, out, err = run(save(tmp_path / "t.csv", rows()), *words)
    assert (code, out) == (exit_code, "")
    assert f"code: {name}" in err and said in err and "why:" in err and "cure:" in err
    assert "Kanarie" not in err, "no cell is ever printed"


FILES: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "monitoring.table_empty"),
    "header.csv": (b"snr,cnr\n", "monitoring.table_empty"),
    "cut.csv.gz": (gzip.compress(b"snr,cnr\n" + b"1,2\n" * 999)[:-9], "monitoring.table_damaged"),
    "not.csv.gz": (b"snr,cnr\n1,2\n", "monitoring.table_damaged"),
    "latin.csv": ("snr,größe\n1,2\n".encode("latin-1"), "monitoring.table_damaged"),
    "ragged.csv": (b"snr,cnr\n1,2\n1\n", "monitoring.table_damaged"),
    "huge_cell.csv": (b'snr,cnr\n"' + b"1" * 200_000 + b'",2\n', "monitoring.table_damaged"),
    "twice.csv": (b"snr,snr,cnr\n1,2,3\n", "monitoring.column_unknown"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_has_a_name_and_a_cure(name: str, run: Run, tmp_path: Path) -> None:
    data, code = FILES[name]
    (tmp_path / name).write_bytes(data)
    exit_code, out, err = run(tmp_path / name, *GOOD)
    assert exit_code == (3 if code == "monitoring.column_unknown" else 2) and not out and code in err


def test_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(TableMissing):
            tables.read(path)
        assert run(path, *GOOD)[0] == 3


METRICS = "cjv,cnr,efc,fber,fwhm_avg,icvs_csf,icvs_gm,inu_range,rpve_gm,snr_gm,snr_wm,summary_wm_stdv"


def test_real_sites_swap(run: Run, radfleet_data: Path, tmp_path: Path) -> None:
    """ABIDE image quality: a GE site after a Siemens one is found within ten studies, and the first alone is quiet."""
    folder = radfleet_data / "drift_tables"
    image, site = tables.read(folder / "mriqc_x_abide.csv.gz"), tables.read(folder / "mriqc_y_abide.csv.gz")
    site_of = dict(zip(site.text("subject_id"), site.text("site"), strict=True))
    sites = [site_of[subject] for subject in image.text("subject_id")]
    usm, um = ([r for r, s in zip(image.rows, sites, strict=True) if s == name] for name in ("USM", "UM"))
    path = tmp_path / "swap.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([image.header, *usm[:85], *um[:30]])
    code, out, _ = run(path, "--columns", METRICS, "--reference", 50, "--json")
    (flag,) = json.loads(out)["flags"]
    assert code == 6 and 85 <= flag["row"] < 95
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([image.header, *usm])
    assert run(path, "--columns", METRICS, "--reference", 50)[0] == 0
