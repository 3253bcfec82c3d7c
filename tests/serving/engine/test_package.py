"""A package is refused by name for every way in which it can be wrong, and cannot be swapped while read."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from registry.canonical import canonical_json, sha256_digest
from serving.engine import contents, errors, package, predictor, signature
from serving.engine.contents import Limits
from serving.engine.package import default_package, read_package, seal, verify_package, write_package
from tests.serving.engine.toy import toy_model, toy_weights


def edit(folder: Path, name: str, /, **changes: Any) -> None:
    """Change fields of a JSON file and seal the package again, as a careless author would."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    seal(folder)


def test_the_digest_is_the_sha256_of_the_canonical_manifest(packed: Path) -> None:
    manifest = (packed / "manifest.json").read_bytes()
    found = verify_package(packed)
    assert found.digest == sha256_digest(manifest) == sha256_digest(canonical_json(json.loads(manifest)))
    assert {row["path"] for row in json.loads(manifest)["files"]} == {
        "brain.safetensors",
        "card.json",
        "golden/golden.json",
        "model.json",
        "openvino/brain.bin",
        "openvino/brain.xml",
    }
    assert found.card["parity"]["brain"]["largest_logit_difference"] <= found.card["parity"]["brain"]["bound"]


def test_the_same_numbers_give_the_same_weights_file(packed: Path, tmp_path: Path) -> None:
    again = write_package(tmp_path / "again", toy_model(), {"card": "a toy"}, {"brain": toy_weights()})
    assert (again.path / "brain.safetensors").read_bytes() == (packed / "brain.safetensors").read_bytes()


def test_a_stage_of_the_parent_is_taken_over_and_no_other(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: a stage is taken over by its name alone, and answers with the weights of another version."""
    parent, stages = read_package(packed), list[str]()
    convert = predictor.convert

    def counted(stage: str, *rest: Any) -> Any:
        stages.append(stage)
        return convert(stage, *rest)

    monkeypatch.setattr(predictor, "convert", counted)
    same = write_package(tmp_path / "same", toy_model(), {}, {"brain": toy_weights()}, parent=parent)
    assert not stages and read_package(same.path).openvino("brain") == parent.openvino("brain")
    assert same.card["parity"] == parent.package.card["parity"]
    other = write_package(tmp_path / "other", toy_model(), {}, {"brain": toy_weights(1)}, parent=parent)
    assert stages == ["brain"] and read_package(other.path).openvino("brain") != parent.openvino("brain")
    write_package(tmp_path / "noise", toy_model(), {}, {"brain": toy_weights()}, golden_seed=2, parent=parent)
    assert len(stages) == 2


@pytest.mark.parametrize(
    "name",
    ["brain.safetensors", "openvino/brain.bin", "openvino/brain.xml", "card.json", "golden/golden.json"],
)
def test_a_changed_byte_is_refused_in_every_file(packed: Path, name: str) -> None:
    data = bytearray((packed / name).read_bytes())
    data[-1] ^= 1
    (packed / name).write_bytes(data)
    with pytest.raises(errors.PackageChanged):
        verify_package(packed)


def test_a_changed_manifest_is_another_version_or_refused(packed: Path) -> None:
    first = verify_package(packed).digest
    manifest = json.loads((packed / "manifest.json").read_bytes())
    (packed / "manifest.json").write_text(json.dumps(manifest, indent=1))
    with pytest.raises(errors.PackageManifest):
        verify_package(packed)
    edit(packed, "card.json", note="x")
    assert verify_package(packed).digest != first


def test_duplicate_keys_in_the_manifest_are_refused(packed: Path) -> None:
    text = (packed / "manifest.json").read_text()
    (packed / "manifest.json").write_text(text.replace('{"files":', '{"files":[],"files":', 1))
    with pytest.raises(errors.PackageManifest):
        verify_package(packed)


def test_an_extra_file_is_refused(packed: Path) -> None:
    (packed / "notes.json").write_text("{}")
    with pytest.raises(errors.PackageExtraFile):
        verify_package(packed)
    seal(packed)  # naming it in the manifest does not make it part of a package
    with pytest.raises(errors.PackageExtraFile):
        verify_package(packed)


def test_weights_that_no_stage_uses_are_refused(packed: Path) -> None:
    (packed / "spare.safetensors").write_bytes((packed / "brain.safetensors").read_bytes())
    seal(packed)
    with pytest.raises(errors.PackageExtraFile):
        verify_package(packed)


@pytest.mark.parametrize(
    "name", ["brain.safetensors", "openvino/brain.bin", "model.json", "golden/golden.json"]
)
@pytest.mark.parametrize("sealed_again", [False, True])
def test_a_missing_file_is_refused(packed: Path, name: str, sealed_again: bool) -> None:
    (packed / name).unlink()
    if sealed_again:
        seal(packed)
    with pytest.raises(errors.PackageMissingFile):
        verify_package(packed)


def test_a_folder_without_a_manifest_is_not_a_package(tmp_path: Path) -> None:
    with pytest.raises(errors.PackageUnreadable):
        verify_package(tmp_path)
    with pytest.raises(errors.PackageUnreadable):
        verify_package(tmp_path / "absent")


@pytest.mark.parametrize("name", ["model.pt", "brain.pkl", "x.ckpt", "openvino/brain.npz"])
def test_a_pickle_is_refused_by_name(packed: Path, name: str) -> None:
    (packed / name).write_bytes(b"harmless")
    with pytest.raises(errors.PackagePickle):
        verify_package(packed)


@pytest.mark.parametrize("name", ["brain.safetensors", "openvino/brain.bin", "card.json"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_under_another_name_is_refused_by_its_bytes(packed: Path, name: str, protocol: int) -> None:
    (packed / name).write_bytes(pickle.dumps({"state": [1.0] * 100}, protocol))
    with pytest.raises(errors.PackagePickle):
        verify_package(packed)


def test_an_archive_under_another_name_is_refused(packed: Path) -> None:
    with zipfile.ZipFile(packed / "brain.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([1]))
    with pytest.raises(errors.PackagePickle):
        verify_package(packed)


def test_a_pickle_named_in_the_manifest_is_refused(packed: Path) -> None:
    manifest = json.loads((packed / "manifest.json").read_bytes())
    manifest["files"].append({"path": "weights.pt", "size": 1, "sha256": "0" * 64})
    (packed / "manifest.json").write_bytes(canonical_json(manifest))
    with pytest.raises(errors.PackagePickle):
        verify_package(packed)


def test_links_and_special_files_are_refused(packed: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.json"
    (packed / "card.json").rename(target)
    (packed / "card.json").symlink_to(target)
    with pytest.raises(errors.PackageLink):
        verify_package(packed)
    (packed / "card.json").unlink()
    os.mkfifo(packed / "card.json")
    with pytest.raises(errors.PackageLink):
        verify_package(packed)


def test_a_linked_folder_is_refused(packed: Path, tmp_path: Path) -> None:
    (packed / "openvino").rename(tmp_path / "openvino")
    (packed / "openvino").symlink_to(tmp_path / "openvino")
    with pytest.raises(errors.PackageLink):
        verify_package(packed)


@pytest.mark.parametrize(
    "path", ["../model.json", "/etc/passwd", "a/b/c.json", "openvino/../../x.xml", ".hidden"]
)
def test_a_path_that_leaves_the_package_is_refused(packed: Path, path: str) -> None:
    manifest = json.loads((packed / "manifest.json").read_bytes())
    manifest["files"].append({"path": path, "size": 1, "sha256": "0" * 64})
    (packed / "manifest.json").write_bytes(canonical_json(manifest))
    with pytest.raises(errors.PackagePath):
        verify_package(packed)


def test_an_unknown_architecture_is_refused(packed: Path) -> None:
    stages = toy_model()["stages"]
    stages["brain"]["architecture"] = "os.system"
    edit(packed, "model.json", stages=stages)
    with pytest.raises(errors.UnknownArchitecture):
        verify_package(packed)


@pytest.mark.parametrize("parameters", [{"a": "$__import__('os')"}, {"a": [{"b": "  $x"}]}, {"$key": 1}])
def test_expressions_are_refused_wherever_they_hide(packed: Path, parameters: dict[str, Any]) -> None:
    edit(packed, "model.json", parameters=parameters)
    with pytest.raises(errors.PackageExpression):
        verify_package(packed)


@pytest.mark.parametrize(
    "limits", [Limits(file_bytes=500), Limits(package_bytes=900), Limits(files=3), Limits(text_bytes=9)]
)
def test_an_oversized_package_is_refused(packed: Path, limits: Limits) -> None:
    with pytest.raises(errors.PackageTooLarge):
        verify_package(packed, limits=limits)


def test_too_many_tensors_or_too_long_a_header_are_refused(packed: Path) -> None:
    with pytest.raises(errors.PackageTensors, match="more than 2"):
        verify_package(packed, limits=Limits(tensors=2))
    with pytest.raises(errors.PackageTensors, match="header"):
        verify_package(packed, limits=Limits(header_bytes=10))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_a_wrong_dtype_is_refused(packed: Path, dtype: Any) -> None:
    (packed / "brain.safetensors").write_bytes(save({"0.bias": np.zeros(4, dtype)}))
    seal(packed)
    with pytest.raises(errors.PackageTensors, match="float16"):
        verify_package(packed)


@pytest.mark.parametrize(
    "data", [b"", b"12345678", b"\x02" + b"\0" * 7 + b"{}", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]"]
)
def test_a_file_that_is_no_safetensors_is_refused(packed: Path, data: bytes) -> None:
    (packed / "brain.safetensors").write_bytes(data)
    seal(packed)
    with pytest.raises(errors.PackageTensors):
        verify_package(packed)


@pytest.mark.parametrize(
    "changes",
    [{"schema": 2}, {"name": "../x"}, {"version": "latest"}, {"labels": {"0": {}}}, {"surprise": 1}],
)
def test_model_json_follows_its_schema(packed: Path, changes: dict[str, Any]) -> None:
    edit(packed, "model.json", **changes)
    with pytest.raises(errors.PackageModel):
        verify_package(packed)


def test_the_bytes_that_were_hashed_are_the_bytes_that_are_used(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant caught: opening a file a second time for parsing would load the swapped weights."""
    original = toy_weights()["0.weight"].astype(np.float16)
    check = contents.check_manifest

    def swap(manifest: bytes, files: Any) -> None:
        check(manifest, files)
        (packed / "brain.safetensors").write_bytes(save({"0.weight": np.zeros((4, 1, 3, 3, 3), np.float16)}))

    monkeypatch.setattr(contents, "check_manifest", swap)
    assert np.array_equal(read_package(packed).weights("brain")["0.weight"], original)


def test_weights_that_float16_cannot_hold_are_refused(toy: None, tmp_path: Path) -> None:
    for bad in (0.1, 1e6, float("nan")):
        weights = toy_weights()
        weights["0.bias"] = np.full(4, bad, np.float32)
        with pytest.raises(errors.PackageNotHalf):
            write_package(tmp_path / "toy", toy_model(), {}, {"brain": weights})
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_are_refused(toy: None, tmp_path: Path) -> None:
    weights = toy_weights()
    del weights["0.bias"]
    with pytest.raises(errors.PackageTensors):
        write_package(tmp_path / "toy", toy_model(), {}, {"brain": weights})
    with pytest.raises(errors.PackageModel):
        write_package(tmp_path / "toy", toy_model(), {}, {"other": toy_weights()})


def test_a_package_is_written_once(packed: Path) -> None:
    with pytest.raises(errors.PackageExists):
        write_package(packed, toy_model(), {}, {"brain": toy_weights()})


def test_a_conversion_that_answers_differently_is_refused(
    toy: None, tmp_path: Path, monkeypatch: Any
) -> None:
    from serving.engine import predictor

    monkeypatch.setattr(
        predictor.OpenVinoNet, "__call__", lambda self, x: np.zeros((1, 2, 16, 16, 16), np.float32)
    )
    with pytest.raises(errors.PackageParity):
        write_package(tmp_path / "toy", toy_model(), {}, {"brain": toy_weights()})


class TestSignature:
    def test_a_trusted_signature_is_named_and_a_stranger_is_not(self, packed: Path, tmp_path: Path) -> None:
        keys = tmp_path / "keys"
        keys.mkdir()
        name = signature.write_key(keys / "publisher")
        seal(packed, signature.read_key(keys / "publisher"))
        trusted = signature.trusted_keys(keys.glob("*.pub"))
        assert verify_package(packed, trusted, must_be_signed=True).signed_by == name
        assert verify_package(packed).signed_by is None
        with pytest.raises(errors.PackageSignature):
            verify_package(packed, must_be_signed=True)
        assert (keys / "publisher").stat().st_mode & 0o077 == 0

    def test_a_signature_does_not_fit_another_manifest(self, packed: Path, tmp_path: Path) -> None:
        signature.write_key(tmp_path / "publisher")
        key = signature.read_key(tmp_path / "publisher")
        seal(packed, key)
        old = (packed / "manifest.sig").read_bytes()
        edit(packed, "card.json", note="changed after signing")
        (packed / "manifest.sig").write_bytes(old)
        with pytest.raises(errors.PackageSignature):
            verify_package(packed, signature.trusted_keys([tmp_path / "publisher.pub"]))

    @pytest.mark.parametrize(
        "data", [b"{}", b"[]", b"x", b'{"algorithm":"none","key_id":"0","signature":""}']
    )
    def test_a_malformed_signature_is_refused(self, packed: Path, data: bytes) -> None:
        (packed / "manifest.sig").write_bytes(data)
        with pytest.raises(errors.PackageSignature):
            verify_package(packed)

    def test_a_file_that_is_no_key_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.pub").write_text("no key")
        with pytest.raises(errors.PackageSignature):
            signature.trusted_keys([tmp_path / "x.pub"])
        with pytest.raises(errors.PackageSignature):
            signature.read_key(tmp_path / "x.pub")


def test_the_newest_shipped_package_is_the_default(packed: Path, tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0"):
        shutil.copytree(packed, tmp_path / "shelf" / f"toy-{version}")
        edit(tmp_path / "shelf" / f"toy-{version}", "model.json", version=version)
    assert default_package("toy", tmp_path / "shelf").name == "toy-1.10.0"
    with pytest.raises(errors.PackageNone, match="toy"):
        default_package("absent", tmp_path / "shelf")


def test_verification_does_not_import_heavy_libraries() -> None:
    import subprocess
    import sys

    heavy = {"torch", "openvino", "ray", "mlflow"}
    code = f"import sys, {package.__name__}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
