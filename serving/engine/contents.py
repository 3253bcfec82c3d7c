"""Reads the files of a package once and refuses whatever a package may not hold.

Everything here works on bytes that were read through one open; nothing looks at the folder twice.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from registry.canonical import canonical_json, sha256_digest
from serving.engine import errors

MANIFEST, SIGNATURE, MODEL, CARD, GOLDEN = (
    "manifest.json",
    "manifest.sig",
    "model.json",
    "card.json",
    "golden/golden.json",
)
# One plain name, or one folder and one plain name: nothing hidden, nothing absolute, no "..".
PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63})?")
KINDS = re.compile(
    r"model\.json|card\.json|[a-z0-9_-]+\.safetensors|openvino/[a-z0-9_-]+\.(xml|bin)|golden/golden\.json"
)
PICKLE_NAMES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npz", ".npy", ".zip", ".mar", ".ts"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a loader will read at most (bytes and counts)."""

    files: int = 64
    file_bytes: int = 256 * 2**20
    package_bytes: int = 512 * 2**20
    text_bytes: int = 4 * 2**20
    header_bytes: int = 2**20
    tensors: int = 4096


def _walk(folder: Path, limits: Limits) -> Iterator[tuple[str, Path]]:
    seen = 0
    pending = [("", folder)]
    while pending:
        prefix, place = pending.pop()
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
            seen += 1
            if seen > limits.files:
                raise errors.PackageTooLarge(f"The package has more than {limits.files} files and folders")
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False) and not prefix:
                pending.append((name + "/", Path(entry.path)))
            else:
                yield name, Path(entry.path)


def read_folder(folder: Path, limits: Limits) -> dict[str, bytes]:
    """Path in the package -> bytes, for every file of ``folder``; raises on links, pickles and excess."""
    files: dict[str, bytes] = {}
    left = limits.package_bytes
    try:
        for name, path in _walk(folder, limits):
            if Path(name).suffix.lower() in PICKLE_NAMES:
                raise errors.PackagePickle(f"{Path(name).name} is a kind of file that holds pickles")
            limit = min(left, limits.text_bytes if name.endswith(".json") else limits.file_bytes)
            files[name] = _read_file(path, limit)
            if _is_pickle(name, files[name]):
                raise errors.PackagePickle(f"{name} holds a pickle or an archive, whatever its name says")
            left -= len(files[name])
    except OSError as error:
        raise errors.PackageUnreadable(f"The package folder cannot be read: {error.strerror}") from error
    return files


def _read_file(path: Path, limit: int) -> bytes:
    """All bytes of a regular file, opened once and never through a link."""
    try:
        # O_NONBLOCK: a FIFO put in the folder must not hang the loader.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise errors.PackageLink(f"{path.name} is a symbolic link") from error
        raise
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise errors.PackageLink(f"{path.name} is not a regular file")
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise errors.PackageTooLarge(f"{path.name} has more than the {limit} bytes that are left for it")
    return data


def _is_pickle(name: str, data: bytes) -> bool:
    if data[:4] == b"PK\x03\x04":
        return True
    if name.endswith(".safetensors") and data[8:9] == b"{":
        return False  # a header length may happen to look like a pickle's first bytes
    return data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and data[-1:] == b"."


def check_manifest(manifest: bytes, files: Mapping[str, bytes]) -> None:
    """Raise unless ``manifest`` names exactly ``files``, by size and SHA-256."""
    try:
        value = json.loads(manifest)
        # Only one spelling is accepted: duplicate keys or other blanks could mean two things to two readers.
        if canonical_json(value) != manifest or value["schema"] != 1:
            raise ValueError("not canonical")
        listed = {str(row["path"]): (int(row["size"]), str(row["sha256"])) for row in value["files"]}
        if len(listed) != len(value["files"]) or set(value) != {"schema", "files"}:
            raise ValueError("a path twice or an unknown field")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise errors.PackageManifest(f"{MANIFEST} is not in order: {error}") from error
    for path in listed:
        if not PATH.fullmatch(path):
            raise errors.PackagePath("A path in the manifest is not a plain name inside the package")
        if Path(path).suffix.lower() in PICKLE_NAMES:
            raise errors.PackagePickle(
                f"The manifest names {Path(path).name}, a kind of file that holds pickles"
            )
        if path not in files:
            raise errors.PackageMissingFile(f"{path} is named by the manifest and not there")
    for path, data in files.items():
        if path not in listed:
            raise errors.PackageExtraFile(f"{path} is there and not named by the manifest")
        size, digest = listed[path]
        if len(data) != size or sha256_digest(data) != "sha256:" + digest:
            raise errors.PackageChanged(f"{path} does not have the bytes that the manifest names")
        if not KINDS.fullmatch(path):
            raise errors.PackageExtraFile(f"{path} is not a kind of file that a package holds")


def check_contents(files: Mapping[str, bytes], limits: Limits) -> tuple[dict[str, Any], dict[str, Any]]:
    """model.json and card.json, once they and every file that they use are proven sound."""
    model, card = _json(files, MODEL), _json(files, CARD)
    check_model(model)
    _json(files, GOLDEN)
    named = {MODEL, CARD, GOLDEN}
    known = architectures()
    for name, stage in model["stages"].items():
        if stage["architecture"] not in known:
            raise errors.UnknownArchitecture(f"Stage {name} asks for an unknown architecture")
        for path in (stage["weights"], stage["openvino"], stage["openvino"].removesuffix(".xml") + ".bin"):
            if path not in files:
                raise errors.PackageMissingFile(f"Stage {name} names {path}, which is not in the package")
            named.add(path)
        check_tensors(stage["weights"], files[stage["weights"]], limits)
    for path in files.keys() - named:
        raise errors.PackageExtraFile(f"No stage of {MODEL} uses {path}")
    return model, card


def _json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if name not in files:
        raise errors.PackageMissingFile(f"The package has no {name}")
    try:
        value = json.loads(files[name])
    except (ValueError, RecursionError) as error:
        raise errors.PackageModel(f"{name} is not JSON") from error
    if not isinstance(value, dict):
        raise errors.PackageModel(f"{name} is not a JSON object")
    _refuse_expressions(name, value)
    return value


def _refuse_expressions(name: str, value: object) -> None:
    if isinstance(value, str):
        if value.lstrip().startswith("$"):
            raise errors.PackageExpression(f"{name} holds a text that begins with $")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_expressions(name, key)
            _refuse_expressions(name, item)
    elif isinstance(value, list):
        for item in value:
            _refuse_expressions(name, item)


@cache
def _schema() -> Any:
    import jsonschema

    schema = json.loads(Path(__file__).with_name("model.schema.json").read_bytes())
    return jsonschema.Draft202012Validator(schema)


def check_model(model: Mapping[str, Any]) -> None:
    """Raise ``PackageModel`` unless ``model`` follows model.schema.json."""
    problem = next(iter(_schema().iter_errors(model)), None)
    if problem is not None:
        place = "/".join(str(part) for part in problem.absolute_path) or "its top level"
        raise errors.PackageModel(f"{MODEL} is wrong at {place}: {problem.message[:200]}")


def architectures() -> frozenset[str]:
    """The names of the networks that this installation can build."""
    from serving.engine.architectures import ARCHITECTURES

    return frozenset(ARCHITECTURES)


def check_tensors(name: str, data: bytes, limits: Limits) -> None:
    """Refuse a safetensors file that is malformed, too rich in tensors, or not float16 throughout."""
    import safetensors

    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(limits.header_bytes, len(data) - 8):
        raise errors.PackageTensors(f"{name} is not a safetensors file, or its header is too long")
    try:
        header = json.loads(data[8 : 8 + length])
        kinds = [entry["dtype"] for key, entry in header.items() if key != "__metadata__"]
        if len(kinds) > limits.tensors:
            raise errors.PackageTensors(f"{name} holds more than {limits.tensors} tensors")
        safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise errors.PackageTensors(f"{name} is not a safetensors file") from error
    if not kinds or set(kinds) != {"F16"}:
        raise errors.PackageTensors(f"{name} holds tensors of another type than float16")
