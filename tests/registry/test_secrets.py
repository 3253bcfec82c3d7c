"""Secret files are made once, whole and for one user."""

import stat
import threading
from pathlib import Path

from registry import secrets
from registry.core.settings import Settings


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    its = Settings(home=tmp_path / "home")
    first = secrets.ensure(its, "patient-key", nbytes=16)
    assert len(bytes.fromhex(first)) == 16
    assert secrets.ensure(its, "patient-key") == first == its.secret("patient-key")
    assert stat.S_IMODE((its.secrets_dir / "patient-key").stat().st_mode) == 0o600
    assert stat.S_IMODE(its.secrets_dir.stat().st_mode) == 0o700
    assert [path.name for path in its.secrets_dir.iterdir()] == ["patient-key"]


def test_racing_makers_get_one_secret(tmp_path: Path) -> None:
    its = Settings(home=tmp_path)
    start, got = threading.Barrier(8), []

    def make() -> None:
        start.wait()
        got.append(secrets.ensure(its, "ray-token"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 and len(set(got)) == 1
