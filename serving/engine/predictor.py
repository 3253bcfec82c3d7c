"""Runs the networks of one verified package, in OpenVINO on a processor or in torch on a GPU.

Both runtimes compute in float32 from the very same float16-representable numbers. A task sees only
callables and cannot tell which runtime answers; the answer names it.
"""

import hashlib
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.engine import errors
from serving.engine.package import OpenPackage, read_package

if TYPE_CHECKING:
    from serving.engine.segmentation import Segmentation
    from serving.imaging.volume import Volume

Array = NDArray[np.float32]

# Largest allowed difference of a logit between torch and OpenVINO, both float32. A logit that is off by
# this much moves a probability by at most 0.005 (a quarter of it), far below any threshold's meaning.
PARITY_BOUND = 0.02
PARITY_TRIALS = 3
GOLDEN_SAMPLES = 64
# Compiled graphs kept per network: a study asks for one or two input shapes, and each keeps its buffers.
SHAPES = 2


class Net(Protocol):
    """A network as tasks see it: float32 batch in, float32 logits out."""

    def __call__(self, x: Array) -> Array:
        """Logits of ``x``."""

    def rest(self) -> None:
        """Give back the working memory; the next call takes it again."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one package said about one volume, and who, where and how fast it said it.

    ``digest`` was computed from the bytes that were loaded; ``seconds`` holds ``segment`` and one entry
    per stage.
    """

    segmentation: "Segmentation"
    digest: str
    runtime: str
    device: str
    seconds: dict[str, float]


class OpenVinoNet:
    """One IR compiled for the processor, once per input shape.

    Threads are bounded and not pinned: two pinned processes share the same cores and halve each other.
    float32 is asked for by name because the processor may offer bfloat16, which is too coarse here.
    """

    def __init__(self, xml: bytes, weights: bytes, threads: int) -> None:
        import openvino

        self._core = openvino.Core()
        self._xml, self._weights = xml, weights
        self._config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self.device = str(self._core.get_property("CPU", "FULL_DEVICE_NAME"))

    def __call__(self, x: Array) -> Array:
        """Logits of ``x``; a new shape costs one compilation (about 0.1 s)."""
        if x.shape not in self._compiled:
            # A graph of fixed shape starts faster than a dynamic one: 0.8 s against 1.1 s, measured on
            # 128x144x128, compilation included.
            model = self._core.read_model(self._xml, self._weights)
            model.reshape(list(x.shape))
            self._compiled[x.shape] = self._core.compile_model(model, "CPU", self._config)
        self._compiled.move_to_end(x.shape)
        while len(self._compiled) > SHAPES:
            self._compiled.popitem(last=False)
        # The output buffer belongs to the graph and is overwritten by the next call, hence the copy.
        return np.array(self._compiled[x.shape](np.ascontiguousarray(x))[0], dtype=np.float32)

    def rest(self) -> None:
        """Drop the compiled graphs and their buffers."""
        self._compiled.clear()


class TorchNet:
    """The same network in torch, on a GPU when there is one."""

    def __init__(self, architecture: str, tensors: Mapping[str, NDArray[np.float16]], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # TensorFloat-32 keeps 10 bits of mantissa; the answer must not depend on the card's generation.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._net = build_net(architecture, tensors).to(self._where)
        self.device = torch.cuda.get_device_name() if self._where.type == "cuda" else "CPU"

    def __call__(self, x: Array) -> Array:
        """Logits of ``x``."""
        import torch

        with torch.inference_mode():
            answer = self._net(torch.from_numpy(np.ascontiguousarray(x)).to(self._where))
            array: Array = answer.float().cpu().numpy()
        return array

    def rest(self) -> None:
        """Give cached GPU memory back to the driver."""
        import torch

        if self._where.type == "cuda":
            torch.cuda.empty_cache()


def build_net(architecture: str, tensors: Mapping[str, NDArray[np.float16]]) -> Any:
    """The torch module of an allow-listed architecture with exactly these weights, ready to answer.

    Raises ``UnknownArchitecture`` for an unknown name and ``PackageTensors`` when a tensor is missing,
    unknown or of another shape.
    """
    import torch

    from serving.engine.architectures import ARCHITECTURES, build

    if architecture not in ARCHITECTURES:
        raise errors.UnknownArchitecture("The package asks for an unknown architecture")
    net = build(architecture)
    try:
        net.load_state_dict(
            {name: torch.from_numpy(tensor.astype(np.float32)) for name, tensor in tensors.items()},
            strict=True,
        )
    except RuntimeError as error:
        raise errors.PackageTensors(f"The weights do not fit architecture {architecture}") from error
    return net.eval()


def choose_runtime(runtime: str) -> str:
    """``openvino`` or ``torch``; ``auto`` takes torch only where an NVIDIA driver and CUDA answer."""
    if runtime in ("openvino", "torch"):
        return runtime
    if runtime != "auto":
        raise errors.RuntimeUnknown("The runtime asked for does not exist")
    # Importing torch costs 200 MB: look for a driver first.
    if not Path("/proc/driver/nvidia/version").exists():
        return "openvino"
    import torch

    return "torch" if torch.cuda.is_available() else "openvino"


class Predictor:
    """One package, loaded: reads the bytes once, hashes what it read, and answers from those bytes."""

    def __init__(
        self,
        folder: Path,
        threads: int,
        runtime: str = "auto",
        *,
        trusted: Mapping[str, Any] | None = None,
        must_be_signed: bool = False,
    ) -> None:
        from serving.engine.segmentation import TASKS

        content = read_package(folder, trusted, must_be_signed=must_be_signed)
        self.package = content.package
        self.digest = content.package.digest
        self.runtime = choose_runtime(runtime)
        if self.package.model["task"] not in TASKS:
            raise errors.PackageModel("This installation does not know the task of the package")
        self._segment: Callable[..., Segmentation] = TASKS[self.package.model["task"]]
        self._nets = {stage: self._net(content, stage, threads) for stage in self.package.model["stages"]}
        self.device = next(iter(self._nets.values())).device
        self._busy = threading.Lock()
        self._check_golden(content.golden())

    def _net(self, content: OpenPackage, stage: str, threads: int) -> Any:
        if self.runtime == "openvino":
            return OpenVinoNet(*content.openvino(stage), threads)
        architecture = content.package.model["stages"][stage]["architecture"]
        return TorchNet(architecture, content.weights(stage), threads)

    def _check_golden(self, golden: Mapping[str, Any]) -> None:
        for stage, net in self._nets.items():
            try:
                recipe = golden["stages"][stage]
                x = noise(recipe["shape"], int(golden["seed"]))
                if hashlib.sha256(x.tobytes()).hexdigest() != recipe["input_sha256"]:
                    raise errors.PackageGolden(f"The golden input of stage {stage} cannot be made again here")
                expected, bound = np.asarray(recipe["logits"], np.float64), float(recipe["bound"])
            except (KeyError, TypeError, ValueError) as error:
                raise errors.PackageModel("The golden answer is not in order") from error
            answer = samples(net(x))
            net.rest()
            # "not <=" also refuses NaN, which compares false with everything.
            if answer.shape != expected.shape or not np.abs(answer - expected).max() <= bound:
                raise errors.PackageGolden(f"Stage {stage} does not give its golden answer on this machine")

    def predict(self, volume: "Volume") -> Prediction:
        """Segment one volume (float32 [I,J,K] and its affine) with this package.

        Raises ``ModelFailed`` when the task fails or answers on another grid; named errors of the task
        pass through. One study at a time: the device is fully used by one.
        """
        seconds: dict[str, float] = {}

        def timed(stage: str, net: Net) -> Callable[[Array], Array]:
            def call(x: Array) -> Array:
                began = time.perf_counter()
                answer = net(x)
                seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began
                return answer

            return call

        with self._busy:
            began = time.perf_counter()
            nets = {stage: timed(stage, net) for stage, net in self._nets.items()}
            answer = self._segment(volume, nets, self.package.model["parameters"])
            seconds["segment"] = time.perf_counter() - began
        grid = volume.voxels.shape
        if {answer.mask.shape, answer.brain.shape, answer.probability.shape} != {grid}:
            raise errors.ModelFailed("The model answered on another grid than the study's")
        known = {0, *(int(label) for label in self.package.model["labels"])}
        if not known.issuperset(np.unique(answer.mask).tolist()):
            raise errors.ModelFailed("The model answered a label that its package does not declare")
        return Prediction(answer, self.digest, self.runtime, self.device, seconds)

    @property
    def bytes(self) -> int:
        """Memory kept at rest: the float16 files, and in torch the float32 tensors made from them."""
        return self.package.size if self.runtime == "openvino" else 2 * self.package.size

    def rest(self) -> None:
        """Give back working memory and keep the weights: the state of a cached version that nobody asks."""
        with self._busy:
            for net in self._nets.values():
                net.rest()


def noise(shape: Any, seed: int) -> Array:
    """Input of the golden and parity checks: uniform float32 in [-2, 2] on a grid of thousandths.

    Made from integers, whose stream numpy promises to keep for a seed.
    """
    steps = np.random.default_rng(seed).integers(-2000, 2001, size=tuple(int(n) for n in shape))
    return (steps.astype(np.float32) / np.float32(1000)).astype(np.float32)


def samples(logits: Array) -> NDArray[np.float64]:
    """``GOLDEN_SAMPLES`` logits spread evenly over an answer."""
    flat = logits.ravel()
    return flat[np.linspace(0, flat.size - 1, GOLDEN_SAMPLES).astype(np.int64)].astype(np.float64)


def convert(
    stage: str, architecture: str, tensors: Mapping[str, NDArray[np.float16]], xml: Path, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the OpenVINO twin of a network to ``xml`` (and .bin) and prove that it answers the same.

    The graph keeps float16 constants, which is exact because every weight is float16-representable, and
    open batch and space axes. Returns what the card records (largest difference of a logit, bound,
    shapes) and the golden answer of the stage. Raises ``PackageParity`` beyond ``PARITY_BOUND``.
    """
    import openvino
    import torch

    from serving.engine.architectures import ARCHITECTURES

    net = build_net(architecture, tensors)
    shape = tuple(ARCHITECTURES[architecture].example)
    axes = list(ARCHITECTURES[architecture].dynamic)
    with torch.inference_mode(), warnings.catch_warnings():
        # OpenVINO traces through torch.jit, which torch announces to retire; the pinned pair works.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Unchecked: torch would trace twice more to compare, and what counts is compared below.
        traced = torch.jit.trace(net, torch.zeros(shape), strict=False, check_trace=False)
        graph = openvino.convert_model(traced, example_input=torch.zeros(shape), input=axes)
    openvino.save_model(graph, str(xml), compress_to_fp16=True)
    twin = OpenVinoNet(xml.read_bytes(), xml.with_suffix(".bin").read_bytes(), torch.get_num_threads())
    differences, extremes = [], []
    for trial in range(PARITY_TRIALS):
        x = noise(shape, seed + trial)
        with torch.inference_mode():
            expected = net(torch.from_numpy(x)).float().numpy()
        differences.append(float(np.abs(expected - twin(x)).max()))
        extremes += [float(expected.min()), float(expected.max())]
    if not max(differences) <= PARITY_BOUND:
        raise errors.PackageParity(
            f"Stage {stage}: OpenVINO differs from torch by {max(differences):.4f} > {PARITY_BOUND} logits"
        )
    golden = _golden(net, _small(ARCHITECTURES[architecture]), seed)
    parity = {
        "largest_logit_difference": round(max(differences), 7),
        "bound": PARITY_BOUND,
        "logit_range": [round(min(extremes), 3), round(max(extremes), 3)],
        "shape": list(shape),
        "trials": PARITY_TRIALS,
    }
    return parity, golden


def _small(architecture: Any) -> tuple[int, ...]:
    """The smallest honest input: batch and channels of the example, two steps of the coarsest grid."""
    batch, channels, *space = architecture.example
    return (batch, channels, *(min(side, 2 * architecture.multiple) for side in space))


def _golden(net: Any, shape: tuple[int, ...], seed: int) -> dict[str, Any]:
    import torch

    x = noise(shape, seed)
    with torch.inference_mode():
        logits = net(torch.from_numpy(x)).float().numpy()
    return {
        "shape": list(shape),
        "input_sha256": hashlib.sha256(x.tobytes()).hexdigest(),
        "logits": [round(float(value), 6) for value in samples(logits)],
        "bound": PARITY_BOUND,
    }
