"""Archives of real scanners, unpacked once."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def archive(tests_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Path]]:
    """The files of one archive of tests/data/dicom, by the beginning of its name."""
    unpacked: dict[str, list[Path]] = {}

    def files(name: str) -> list[Path]:
        if name not in unpacked:
            (found,) = (tests_data / "dicom").glob(f"{name}*.tar.xz")
            folder = tmp_path_factory.mktemp(name)
            with tarfile.open(found) as tar:
                tar.extractall(folder, filter="data")
            unpacked[name] = sorted(path for path in folder.rglob("*") if path.is_file())
        return unpacked[name]

    return files
