"""A simulated fleet can be replayed, says that it is simulated, and its truth is found; `when` has n and spread."""

import csv
import json
from pathlib import Path

import pytest

from monitoring.streams import simulate, when
from registry.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_simulated_fleet_is_replayed_and_its_truth_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(
        capsys, "monitor", "simulate", "--out", tmp_path / "fleet", "--days", 40, "--event-day", 20, "--json"
    )
    truths = {one["clinic"]: one for one in json.loads(out)}
    assert code == 0 and len(truths) == len(simulate.KINDS)
    for truth in truths.values():
        assert truth["simulated"] and truth["clinic"].startswith("simulated-")
        with (tmp_path / "fleet" / truth["table"]).open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 400 and {row["simulated"] for row in rows} == {"yes"}
    columns = ",".join(simulate.SCALES)
    for name, row, new in (("scanner-swap", 200, ["scanner"]), ("coil-fault", 200, []), ("quiet", None, [])):
        path = tmp_path / "fleet" / f"simulated-{name}.csv"
        found = json.loads(run(capsys, "monitor", "replay", path, "--columns", columns, "--reference", 100,
                               "--group", "scanner", "--order", "acquired", "--json")[1])  # fmt: skip
        changed = [event["row"] for event in found["acquisition_changed"]]
        assert changed == ([row] if new else [])
        if name == "coil-fault":
            (flag,) = found["flags"]
            assert 200 <= flag["row"] < 230 and abs(flag["since_row"] - 200) <= 10
            assert set(flag["features"]) & set(truths["simulated-coil-fault"]["moved"])
    again = tmp_path / "again"
    run(capsys, "monitor", "simulate", "--out", again, "--days", 40, "--event-day", 20)
    same = [
        (again / one["table"]).read_bytes() == (tmp_path / "fleet" / one["table"]).read_bytes()
        for one in truths.values()
    ]
    assert all(same)


def test_when_says_studies_days_labels_and_minutes_with_n() -> None:
    sure = when.answer(when.Question(shift=2.0, dice=0.55, within=200), n=10, seed=3)
    weak = when.answer(when.Question(shift=0.0, dice=0.55, within=60), n=10, seed=3)
    assert (
        sure.n == 10
        and sure.drift_studies.found == 1.0
        and sure.labels is not None
        and sure.minutes is not None
    )
    assert sure.drift_studies.median is not None and sure.drift_studies.median <= 15
    assert sure.drift_days.median == pytest.approx(sure.drift_studies.median / 10)
    assert sure.labels.median is not None and 5 <= sure.labels.median <= 20
    assert sure.minutes.median == pytest.approx(sure.labels.median * 6)
    assert weak.drift_studies.found <= 0.2 and weak.early <= 2


def test_when_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "monitor", "when", "--shift", 3, "--streams", 10)
    assert code == 0 and out.startswith("Simulated: 3 sd on 5 of 20 features")
    assert "drift flagged: studies" in out and "harm" not in out


@pytest.mark.parametrize(("words", "named"), [
    (("when", "--moved", 5, "--features", 3), "monitoring.simulation_unfit"),
    (("when", "--dice", 1.5), "monitoring.simulation_unfit"),
    (("when", "--per-day", 0), "monitoring.budget_unfit"),
    (("simulate", "--out", "x", "--days", 30, "--event-day", 30), "monitoring.simulation_unfit"),
    (("simulate", "--out", "/dev/null/x"), "monitoring.simulation_unfit"),
])  # fmt: skip
def test_what_cannot_be_simulated_is_named(
    words: tuple[object, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "monitor", *words)
    assert code == 2 and not out and named in err and "cure:" in err
