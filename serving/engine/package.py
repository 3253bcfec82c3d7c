"""A model version as a folder of plain files whose manifest names every byte.

The digest of the manifest is the version's identity everywhere: binding, attempt, MLflow tag, result.
Every file is read once, and the bytes that were hashed are the bytes that are parsed, so nothing can be
swapped between the check and the use. Nothing in a package is ever run: no pickle, no expression, and
networks come from an allow-list in code.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.canonical import canonical_json, sha256_digest
from serving.engine import contents, errors, signature


@dataclass(frozen=True, slots=True)
class Package:
    """A verified package: its identity, where it lies, what it says of itself, and who signed it.

    ``signed_by`` is the id of the trusted key whose signature holds, else None; ``size`` is in bytes.
    """

    digest: str
    path: Path
    model: dict[str, Any]
    card: dict[str, Any]
    signed_by: str | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class OpenPackage:
    """A verified package with the very bytes that were hashed: path in the package -> bytes."""

    package: Package
    files: Mapping[str, bytes] = field(repr=False)

    def weights(self, stage: str) -> dict[str, NDArray[np.float16]]:
        """The float16 tensors of a stage by name, parsed from the verified bytes."""
        import safetensors.numpy

        tensors: dict[str, NDArray[np.float16]] = safetensors.numpy.load(
            self.files[self.package.model["stages"][stage]["weights"]]
        )
        return tensors

    def openvino(self, stage: str) -> tuple[bytes, bytes]:
        """The verified IR of a stage: (xml, bin)."""
        name = str(self.package.model["stages"][stage]["openvino"])
        return self.files[name], self.files[name.removesuffix(".xml") + ".bin"]

    def golden(self) -> dict[str, Any]:
        """The golden input's recipe and the answer that belongs to it."""
        answer: dict[str, Any] = json.loads(self.files[contents.GOLDEN])
        return answer


def verify_package(
    folder: Path,
    trusted: Mapping[str, Any] | None = None,
    *,
    must_be_signed: bool = False,
    limits: contents.Limits | None = None,
) -> Package:
    """Check every byte of a package folder; see ``read_package``."""
    return read_package(folder, trusted, must_be_signed=must_be_signed, limits=limits).package


def read_package(
    folder: Path,
    trusted: Mapping[str, Any] | None = None,
    *,
    must_be_signed: bool = False,
    limits: contents.Limits | None = None,
) -> OpenPackage:
    """Read a package once and prove it: returns its contents, or raises the ``Package...`` error that fits.

    ``trusted`` maps key ids to ed25519 public keys (``signature.trusted_keys``). An unsigned package, or
    one signed by a stranger, is read unless ``must_be_signed``.
    """
    limits = limits or contents.Limits()
    files = contents.read_folder(folder, limits)
    manifest = files.pop(contents.MANIFEST, None)
    if manifest is None:
        raise errors.PackageUnreadable(f"{folder.name} has no {contents.MANIFEST}")
    signed = files.pop(contents.SIGNATURE, None)
    contents.check_manifest(manifest, files)
    signed_by = signature.check(manifest, signed, trusted or {}) if signed else None
    if must_be_signed and signed_by is None:
        raise errors.PackageSignature("No trusted key has signed this package")
    model, card = contents.check_contents(files, limits)
    size = sum(len(data) for data in files.values())
    return OpenPackage(Package(sha256_digest(manifest), folder, model, card, signed_by, size), files)


def half(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float16]]:
    """The floating-point tensors as float16 without any loss; ``PackageNotHalf`` when one value would change.

    Integer tensors are left out: they are counters of training (batches seen) that no answer uses.
    """
    halves: dict[str, NDArray[np.float16]] = {}
    for name, tensor in tensors.items():
        if np.issubdtype(tensor.dtype, np.integer):
            continue
        with np.errstate(over="ignore"):
            halves[name] = np.ascontiguousarray(tensor, dtype=np.float16)
        if not np.array_equal(halves[name].astype(np.float64), np.asarray(tensor, dtype=np.float64)):
            raise errors.PackageNotHalf(f"Tensor {name} is not float16-representable")
    return halves


def write_package(
    folder: Path,
    model: Mapping[str, Any],
    card: Mapping[str, Any],
    weights: Mapping[str, Mapping[str, NDArray[Any]]],
    *,
    golden_seed: int = 1,
    key: Any | None = None,
    parent: OpenPackage | None = None,
) -> Package:
    """Make a package in the new ``folder`` and return it verified.

    ``model`` is model.json; ``weights`` maps each of its stages to the state of its network (tensor name
    -> array whose values float16 holds exactly). The OpenVINO twin is converted here and must answer
    within ``predictor.PARITY_BOUND`` of torch, which the card records; the golden answer is torch's on
    noise of ``golden_seed``. ``key`` is an ed25519 private key, which signs the manifest. A stage that has the
    weights of the verified ``parent`` is taken over from it: twin, parity and golden answer were proven there.
    """
    import safetensors.numpy

    from serving.engine import predictor

    contents.check_model(model)
    if set(weights) != set(model["stages"]):
        raise errors.PackageModel("The weights are not those of the stages that model.json names")
    if folder.exists():
        raise errors.PackageExists(f"{folder.name} exists already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        parity: dict[str, Any] = {}
        golden: dict[str, Any] = {"schema": 1, "seed": golden_seed, "stages": {}}
        for stage, spec in model["stages"].items():
            if spec["architecture"] not in contents.architectures():
                raise errors.UnknownArchitecture(f"Stage {stage} asks for an unknown architecture")
            tensors = half(weights[stage])
            (draft / spec["weights"]).write_bytes(safetensors.numpy.save(tensors))
            (draft / "openvino").mkdir(exist_ok=True)
            twin = draft / spec["openvino"]
            if parent is not None and _shared(parent, stage, spec, tensors, golden_seed):
                for path, data in zip((twin, twin.with_suffix(".bin")), parent.openvino(stage), strict=True):
                    path.write_bytes(data)
                parity[stage] = parent.package.card["parity"][stage]
                golden["stages"][stage] = parent.golden()["stages"][stage]
            else:
                parity[stage], golden["stages"][stage] = predictor.convert(
                    stage, spec["architecture"], tensors, twin, golden_seed
                )
        (draft / "golden").mkdir()
        _write_json(draft / contents.GOLDEN, golden)
        _write_json(draft / contents.MODEL, model)
        _write_json(draft / contents.CARD, {**card, "parity": parity})
        seal(draft, key)
        verify_package(draft)
        draft.chmod(0o755)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return verify_package(folder)


def _shared(
    parent: OpenPackage, stage: str, spec: Mapping[str, Any], tensors: Mapping[str, Any], seed: int
) -> bool:
    """Whether the parent's stage is this one, to the bit, and was proven with the same noise."""
    its = parent.package.model["stages"].get(stage)
    if its is None or its["architecture"] != spec["architecture"] or parent.golden()["seed"] != seed:
        return False
    if stage not in parent.package.card.get("parity", {}):
        return False
    old = parent.weights(stage)
    return old.keys() == tensors.keys() and all(np.array_equal(old[name], tensors[name]) for name in old)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def seal(folder: Path, key: Any | None = None) -> str:
    """Write manifest.json for the files of ``folder`` (with a key also manifest.sig); returns the digest."""
    for name in (contents.MANIFEST, contents.SIGNATURE):
        (folder / name).unlink(missing_ok=True)
    files = contents.read_folder(folder, contents.Limits())
    manifest = canonical_json(
        {
            "schema": 1,
            "files": [
                {"path": path, "size": len(data), "sha256": sha256_digest(data).removeprefix("sha256:")}
                for path, data in sorted(files.items())
            ],
        }
    )
    (folder / contents.MANIFEST).write_bytes(manifest)
    if key is not None:
        (folder / contents.SIGNATURE).write_bytes(signature.sign(manifest, key))
    return sha256_digest(manifest)


def default_package(task: str, shelf: Path | None = None) -> Path:
    """The folder of the newest package for ``task`` that ships with this installation.

    Raises ``PackageNone`` naming the tasks that do ship.
    """
    shelf = shelf or Path(__file__).parent.parent / "packages"
    tasks: set[str] = set()
    found: list[tuple[tuple[int, ...], Path]] = []
    for path in sorted(shelf.glob(f"*/{contents.MODEL}")):
        model = json.loads(path.read_bytes())
        tasks.add(model["task"])
        if model["task"] == task:
            number = tuple(int(part) for part in model["version"].partition("-")[0].split("."))
            found.append((number, path.parent))
    if not found:
        raise errors.PackageNone(
            f"No package answers that task; there are: {', '.join(sorted(tasks)) or 'none'}"
        )
    return max(found)[1]
