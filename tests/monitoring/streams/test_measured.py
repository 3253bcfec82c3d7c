"""A fleet drawn from measured studies: each of its rows is a line of the table, and a table that is none is named."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from monitoring.errors import MeasuredUnfit
from monitoring.streams import measured
from registry.cli import main

HEAD = [
    "study",
    "simulated",
    "person",
    "source",
    "event",
    "severity",
    "snr_wm",
    "lesion_ml",
    "brain_ml",
    "dice",
]
LENGTH = {"days": 40, "per_day": 10, "event_day": 20, "seed": 3}
Lines = list[list[object]]


def lines() -> Lines:
    """A made-up table: 60 clean lines, and 20 of each event that a kind of clinic asks for, two sd off."""
    rng, found = np.random.default_rng(5), Lines()
    events = [("none", 0), *dict.fromkeys(tuple(kind.event.split(", ")) for kind in measured.KINDS.values())]
    for event, severity in (one for one in events if len(one) == 2):
        for _ in range(60 if event == "none" else 20):
            snr = rng.normal(10, 1) - 2 * (event != "none")
            found.append([len(found), "yes", "head", "rendered", event, severity, snr, rng.uniform(1, 30),
                          rng.normal(1400, 60), rng.uniform(0.3, 0.8)])  # fmt: skip
    return found


def written(path: Path, rows: Lines, head: list[str] = HEAD) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def test_a_fleet_is_drawn_from_the_lines_and_its_truth_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = measured.read(written(tmp_path / "t.csv", lines()))
    words = [f"--{name.replace('_', '-')}={value}" for name, value in LENGTH.items()]
    command = [
        "monitor",
        "simulate",
        "--measured",
        str(tmp_path / "t.csv"),
        "--out",
        str(tmp_path / "f"),
        "--json",
    ]
    assert main([*command, *words]) == 0
    truths = {one["clinic"].removeprefix("simulated-"): one for one in json.loads(capsys.readouterr().out)}
    assert truths.keys() == measured.KINDS.keys()
    known = {f"{v:.6g}" for v in table.features[:, 0]}
    for truth in truths.values():
        with (tmp_path / "f" / truth["table"]).open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 400
        assert {row["simulated"] for row in rows} == {"yes"}
        assert {row["snr_wm"] for row in rows} <= known
    assert truths["coil-fault"]["moved"]["snr_wm"] < -1.5
    assert truths["population"]["moved"]["lesion_ml"] > 0.5
    for name, changed in (("coil-fault", []), ("scanner-swap", [200]), ("quiet", [])):
        replay = ["monitor", "replay", str(tmp_path / f"f/simulated-{name}.csv"), "--columns", ",".join(table.names),
                  "--reference", "100", "--group", "scanner", "--order", "acquired", "--json"]  # fmt: skip
        main(replay)
        found = json.loads(capsys.readouterr().out)
        assert [event["row"] for event in found["acquisition_changed"]] == changed
        assert [200 <= flag["row"] < 230 for flag in found["flags"]] == (
            [True] if name == "coil-fault" else []
        )


def test_what_happens_slowly_or_by_season_does(tmp_path: Path) -> None:
    table = measured.read(written(tmp_path / "t.csv", lines()))

    def drawn(name: str, days: int) -> np.ndarray:
        rng = np.random.default_rng(1)
        return measured.lines_of(rng, table, measured.KINDS[name], days, 10, 20).reshape(days, 10)

    event = np.isin(drawn("ageing", 100), table.rows("noise, 2")).mean(1)
    assert event[:20].sum() == 0
    assert 0.3 < event[40:60].mean() < 0.7
    assert event[85:].mean() == 1
    assert max(len(set(day)) for day in drawn("noisy", 30).tolist()) <= 3
    large = np.isin(drawn("seasons", 365), measured._upper(table, table.rows("none"), "brain_ml"))
    assert large[:60].mean() > large[150:210].mean() + 0.2


@pytest.mark.parametrize(("broken", "says"), [
    (lambda rows: (rows, [*HEAD[:-1], "jaccard"]), "no column dice"),
    (lambda rows: (rows[10:], HEAD), "50 studies"),
    (lambda rows: ([[*row[:6], "Doe^Jane", *row[7:]] if n == 4 else row for n, row in enumerate(rows)], HEAD),
     "line 6 has no number in the column snr_wm"),
    (lambda rows: ([[*row[:-1], 1.5] if n == 2 else row for n, row in enumerate(rows)], HEAD), "line 4 has a Dice"),
    (lambda rows: ([], HEAD), "no line"),
    (lambda rows: ([[*row[:6], row[9]] for row in rows], [*HEAD[:6], "dice"]), "no feature"),
    (lambda rows: ([row for row in rows if row[4] != "noise"], HEAD), "has the event noise, 2"),
    (lambda rows: ([[*row[:7], *row[8:]] for row in rows], [*HEAD[:7], *HEAD[8:]]), "no column lesion_ml"),
])  # fmt: skip
def test_a_table_that_is_none_is_named_and_writes_nothing(
    broken: Callable[[Lines], tuple[Lines, list[str]]],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measured, "CLEAN_MIN", 51)
    path = written(tmp_path / "t.csv", *broken(lines()))
    with pytest.raises(MeasuredUnfit, match=says) as error:
        measured.fleet(tmp_path, measured.read(path), **LENGTH)
    assert "Doe" not in error.value.lines()
    assert [one.name for one in tmp_path.iterdir()] == ["t.csv"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "t.csv", tmp_path / "none.csv"):
        assert main(["monitor", "simulate", "--measured", str(path), "--out", str(tmp_path / "f")]) == 2
        assert "monitoring.measured_unfit" in capsys.readouterr().err
