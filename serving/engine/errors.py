"""Everything that can go wrong between a package on disk and an answer, each with its cure."""

from collections.abc import Sequence

from registry.core.errors import Conflict, Forbidden, Invalid, NotFound, RadfleetError, Unavailable, Unmet


class PackageUnreadable(Invalid):
    """The package folder cannot be read."""

    code = "engine.package_unreadable"
    cure = "Point at a package folder, one that holds manifest.json, and check its permissions."


class PackageManifest(Invalid):
    """manifest.json is not the RFC 8785 list of files that a package needs."""

    code = "engine.package_manifest"
    cure = "Write the package again with write_package; never edit manifest.json by hand."


class PackageChanged(Invalid):
    """A file of the package does not have the bytes its manifest names."""

    code = "engine.package_changed"
    cure = (
        "Fetch the package again from the registry; if it still differs, stop using that copy and report it."
    )


class PackageExtraFile(Invalid):
    """The package holds a file that nothing in it names."""

    code = "engine.package_extra_file"
    cure = "Remove the file, or write the package again so that its manifest names it."


class PackageMissingFile(Invalid):
    """The package lacks a file that its manifest or model.json names."""

    code = "engine.package_missing_file"
    cure = "Fetch the package again from the registry, or write it again with all its files."


class PackagePickle(Invalid):
    """The package holds a pickle, which is a program and not data."""

    code = "engine.package_pickle"
    why = "Loading a pickle runs whatever its author wrote."
    cure = "Convert the weights to safetensors and write the package again."


class PackageLink(Invalid):
    """The package holds a link or a special file."""

    code = "engine.package_link"
    cure = "Copy the file itself into the package folder and write the package again."


class PackagePath(Invalid):
    """A path in the manifest would leave the package folder."""

    code = "engine.package_path"
    cure = "Write the package again with write_package; its paths are plain names, at most one folder deep."


class UnknownArchitecture(Invalid):
    """The package asks for a network that this installation does not know."""

    code = "engine.unknown_architecture"
    why = "A network is built from an allow-list in code; a package only brings numbers."
    cure = "Use an architecture of serving/engine/architectures.py, or install a release that knows this one."

    def __init__(self, what: str = "", why: str | Sequence[str] = "", cure: str = "") -> None:
        """``why`` may be the list of the known names."""
        super().__init__(what, why if isinstance(why, str) else f"Known are {', '.join(why)}.", cure)


class PackageExpression(Invalid):
    """A text in the package would be run as an expression."""

    code = "engine.package_expression"
    why = "MONAI bundles evaluate a text that begins with $; a package never carries code."
    cure = "Replace the text with the literal value that it stands for."


class PackageTooLarge(Invalid):
    """The package is larger than a loader may read."""

    code = "engine.package_too_large"
    cure = "Reduce the package below the limit that the message names."


class PackageTensors(Invalid):
    """A weights file does not hold what its network needs."""

    code = "engine.package_tensors"
    cure = "Save the network's state as float16 safetensors with exactly its own tensor names and shapes."


class PackageModel(Invalid):
    """model.json or card.json is not valid."""

    code = "engine.package_model"
    cure = "Correct the field that the message names; serving/engine/model.schema.json describes them all."


class PackageNotHalf(Invalid):
    """A weight has a value that float16 cannot hold exactly."""

    code = "engine.package_not_half"
    why = "Both runtimes must compute from the very same numbers, so weights are rounded before evaluation."
    cure = "Round the weights to float16 once, evaluate that network, then write the package."


class PackageSignature(Forbidden):
    """The package's signature does not hold, or no trusted key made it."""

    code = "engine.package_signature"
    cure = (
        "Add the publisher's public key to the trusted keys, or ask the publisher to sign the package again."
    )


class PackageParity(Unmet):
    """The converted network does not answer like the network it was made from."""

    code = "engine.package_parity"
    cure = (
        "Look at the layers that differ, change the network or the conversion, and write the package again."
    )


class PackageGolden(Unmet):
    """The package does not give its golden answer on this machine."""

    code = "engine.package_golden"
    why = "Runtime, processor or driver compute something else than where the package was accepted."
    cure = "Run radfleet doctor, compare the versions of the runtime, and try runtime torch on this machine."


class PackageExists(Conflict):
    """A package already lies in that folder."""

    code = "engine.package_exists"
    cure = "Choose a new folder: a package is written once and never changed."


class PackageCold(Unavailable):
    """The bound version is not on this machine yet and cannot be fetched at the moment."""

    code = "engine.package_cold"
    cure = "Nothing is lost: the study waits. See radfleet status for MLflow, and start it if it is away."


class PackageNone(NotFound):
    """No package for this task lies in this installation."""

    code = "engine.package_none"
    cure = "Name a package folder, or use one of the tasks that the message lists."


class RuntimeUnknown(Invalid):
    """That runtime does not exist or not on this machine."""

    code = "engine.runtime_unknown"
    cure = "Choose openvino, torch or auto."


class RequestInvalid(Invalid):
    """The request to the engine lacks a field or has a wrong one."""

    code = "engine.request_invalid"
    cure = "Send volume_dir, out_dir, clinic_id, fence and digest as the docstring of host.Request says."


class EngineAway(Unavailable):
    """Ray Serve cannot be reached."""

    code = "engine.away"


class EngineTimeout(RadfleetError):
    """The engine did not answer in time."""

    # Not Unavailable: a study that hangs its model must use up its attempts and end, not wait for ever.
    code = "engine.timeout"
    cure = "The study is tried again. If it repeats, look at the machine's load, add replicas, or raise the limit."


class ReplicaDied(RadfleetError):
    """The process that worked on this study died while the rest of the engine lives."""

    # Counted as an attempt for the same reason: the study itself may be what kills it.
    code = "engine.replica_died"
    cure = "The study is tried again. If it repeats, look for memory in the engine's log and add some."


class TaskFailed(RadfleetError):
    """A task failed on Ray."""

    code = "engine.task_failed"
    cure = "Look at Ray's log of this time; run the command again once the cause is mended."


class IdentityMismatch(Conflict):
    """Another model version answered than the one that was asked."""

    code = "engine.identity_mismatch"
    why = "The digest that the loader computed from the bytes it read differs from the attempt's binding."
    cure = "The answer was thrown away. Stop the replicas, verify the package cache, and report the incident."


class ModelFailed(RadfleetError):
    """The model failed on this study."""

    code = "engine.model_failed"
    cure = "Look at the engine's log of this time, then run radfleet study retry once the cause is mended."


class AnswerNotSaved(Unavailable):
    """The answer cannot be written on this node."""

    code = "engine.answer_not_saved"
    cure = "Free disk space where RADFLEET_HOME lies; the study is tried again by itself."
