"""The workloads are the parts of `radfleet up`, their small scripts do what they say, and the image can hold them."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from registry import parts
from registry.core.settings import Settings
from registry.processes import Launch
from tests.house.tree import ROOT
from tests.k8s.checks import USER
from tests.k8s.render import OVERLAYS, pod, pods, render

kubectl = pytest.mark.tool("kubectl")
DOCKERFILE = (ROOT / "k8s" / "Dockerfile").read_text()
IGNORED = (ROOT / "k8s" / "Dockerfile.dockerignore").read_text().splitlines()


@pytest.fixture
def launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Launch]:
    """How each part would be started on one machine, by its name there."""
    monkeypatch.setenv("RADFLEET_HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)  # a client of MLflow in this process, of an earlier test, has set them
    here = Settings(home=tmp_path, database_url="host=db port=5432 user={role} password=x dbname={database}")
    return {part.name: part.launch() for part in parts.parts(here)}


@kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_same_commands_run_here_and_on_one_machine(overlay: str, launches: dict[str, Launch]) -> None:
    here = {
        tuple(p.main["command"][1:])
        for p in pods(render(overlay))
        if p.main.get("command", [""])[0] == "radfleet"
    }
    there = {tuple(one.argv[3:]) for one in launches.values() if one.argv[1:3] == ["-m", "registry.cli"]}
    assert here == there


@kubectl
def test_mlflow_is_started_as_on_one_machine(launches: dict[str, Launch]) -> None:
    main, there = pod(render("prod"), "mlflow").main, launches["mlflow"]

    def options(words: list[str]) -> list[str]:
        return [word for word in words[1:] if word not in ("127.0.0.1", "0.0.0.0")]

    assert options(main["command"]) == options(there.argv)
    here = {one["name"]: one.get("value") for one in main["env"]}
    wanted = {name: value for name, value in there.env.items() if re.match("_?MLFLOW_|OMP_", name)}
    assert here.keys() >= wanted.keys()
    # What says where differs; what says how does not.
    where = re.compile("_STORE$|_DESTINATION$|_HOSTS$")
    same = {name for name in wanted if not where.search(name)}
    assert {name: here[name] for name in same} == {name: wanted[name] for name in same}


@kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whoever_waits_for_the_schema_there_waits_here(overlay: str, tmp_path: Path) -> None:
    waiting = {
        tuple(part.launch().argv[3:])
        for part in parts.parts(Settings(home=tmp_path, database_url="host=db user={role} dbname={database}"))
        if "migrate" in part.after and part.name != "mlflow"
    }
    gated = {
        tuple(p.main["command"][1:])
        for p in pods(render(overlay))
        for container in p.spec.get("initContainers", [])
        if container.get("command") == ["radfleet", "db", "status"]
    }
    assert gated == waiting


@kubectl
def test_passwords_come_first_and_nothing_is_ready_before_its_own_announcement() -> None:
    for p in pods(render("prod")):
        if "initContainers" in p.spec:
            assert p.spec["initContainers"][0]["name"] == "passwords", p.name


def _sh(words: list[str], **places: Path) -> "subprocess.CompletedProcess[str]":
    """Run a container's script with other places in the stead of its own."""
    script = words[-1]
    for name, place in places.items():
        old = {"roles": "/etc/radfleet/roles", "run": "/run/radfleet", "owner": "/run/owner"}[name]
        assert old in script
        script = script.replace(old, str(place))
    return subprocess.run([*words[:-1], script], capture_output=True, text=True, timeout=20, check=False)


@kubectl
def test_the_password_file_is_one_that_libpq_accepts(tmp_path: Path) -> None:
    script = pod(render("prod"), "work").containers[0]["command"]
    roles, run, owner = (tmp_path / name for name in ("roles", "run", "owner"))
    for folder in (roles, run, owner):
        folder.mkdir()
    for role in ("radfleet_owner", "radfleet_app", "radfleet_system"):
        (roles / role).write_text(f"word-of-{role}\n")
    for _ in range(2):  # a pod that is started again runs it again
        assert _sh(script, roles=roles, run=run, owner=owner).returncode == 0
    mine, its = run / "pgpass", owner / "pgpass"
    assert (
        mine.read_text()
        == "*:*:*:radfleet_app:word-of-radfleet_app\n*:*:*:radfleet_system:word-of-radfleet_system\n"
    )
    assert its.read_text() == "*:*:*:radfleet_owner:word-of-radfleet_owner\n"
    assert {path.stat().st_mode & 0o777 for path in (mine, its)} == {0o600}
    (roles / "radfleet_app").unlink()
    (roles / "radfleet_app").mkdir()  # cannot be read
    assert _sh(script, roles=roles, run=run, owner=owner).returncode != 0


@kubectl
@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe"])
def test_ready_means_announced_and_alive(tmp_path: Path, probe: str) -> None:
    words = pod(render("prod"), "deliver").main[probe]["exec"]["command"]
    assert _sh(words, run=tmp_path).returncode != 0, "nothing is announced"
    (tmp_path / "ready").write_text(str(os.getpid()))
    assert _sh(words, run=tmp_path).returncode == 0
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "ready").write_text(str(gone.pid))
    assert _sh(words, run=tmp_path).returncode != 0, "left over from a process that died"
    (tmp_path / "ready").write_text("")
    assert _sh(words, run=tmp_path).returncode != 0, "half written"


def dockerfile_faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile of ours."""
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    found = [
        f"not pinned: {base}" for base in bases if not re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)
    ]
    if len(bases) != 2 or len(set(bases)) != 1:
        found.append("the environment is not built on the base that it runs on")
    if "make setup" not in text or "ARG TORCH_INDEX" not in text:
        found.append("not the Makefile's steps")
    last = text.rpartition("\nFROM ")[2]
    if f"\nUSER {USER}:{USER}\n" not in last:
        found.append("not the user of the manifests")
    if re.search(r"^(COPY|ADD) \.", text, re.MULTILINE):
        found.append("copies everything")
    return found


def test_the_dockerfile_is_pinned_and_builds_as_the_makefile_does() -> None:
    assert dockerfile_faults(DOCKERFILE) == []
    for old, new in (
        ("slim-bookworm AS build", "slim AS build"),
        ("python:3.11.14-slim-bookworm\n", "python:latest\n"),
        (f"USER {USER}:{USER}", "USER root"),
        ("make setup", "pip install ."),
        ("COPY registry registry", "COPY . ."),
    ):
        assert dockerfile_faults(DOCKERFILE.replace(old, new)) != [], old


def copied() -> list[str]:
    return [
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    ]


def test_the_build_gets_what_it_copies_and_no_more() -> None:
    assert IGNORED[1] == "*", "everything is left out first"
    assert {line[1:] for line in IGNORED if line.startswith("!")} == set(copied())
    for secret in (".radfleet", ".git", "tests", ".venv", "build"):
        assert not any(fnmatch.fnmatch(secret, line[1:]) for line in IGNORED if line.startswith("!"))


def test_what_the_dockerfile_copies_is_enough_to_build(tmp_path: Path) -> None:
    """The step of `pip install --editable` that reads the tree, on a tree that holds nothing else."""
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    build = "from setuptools import build_meta as b; b.prepare_metadata_for_build_editable('.')"
    done = subprocess.run(
        [sys.executable, "-c", build],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-800:]


@kubectl
def test_what_does_not_exist_yet_is_not_deployed() -> None:
    kinds = {one["kind"] for one in render("prod")}
    assert not kinds & {"ScaledObject"}
