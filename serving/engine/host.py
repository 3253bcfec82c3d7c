"""What runs inside a Ray Serve replica: loads packages by digest and answers one study at a time.

A request holds references and no pixels, the answer likewise: Ray never carries a volume. The digest in the
answer is the one that the loader computed from the bytes it read.
"""

import asyncio
import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve

from registry.core.errors import RadfleetError
from serving.engine import cache, errors
from serving.engine.predictor import Prediction, Predictor
from serving.imaging.volume import load_volume

MODELS_KNOWN_TO_ROUTER = 64
FILES = {"mask": "mask.npy", "brain": "brain.npy", "probability": "probability.npy"}
SUMMARY = "segmentation.json"


@dataclass(frozen=True, slots=True)
class Request:
    """One study for one package. Both folders are absolute and shared by caller and replica.

    ``volume_dir`` holds what ``save_volume`` wrote; the answer's files go to ``out_dir``. ``clinic_id`` and
    ``fence`` are echoed, so that an answer cannot be taken for that of another attempt.
    """

    volume_dir: str
    out_dir: str
    clinic_id: str
    fence: int
    digest: str

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "Request":
        """The request in ``fields``; raises ``RequestInvalid``."""
        try:
            request = cls(**fields)
        except TypeError as error:
            raise errors.RequestInvalid("A field of the request is missing or unknown") from error
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", str(request.digest)):
            raise errors.RequestInvalid("The request's digest is not a digest")
        if not (Path(request.volume_dir).is_absolute() and Path(request.out_dir).is_absolute()):
            raise errors.RequestInvalid("The request's folders are not absolute")
        if type(request.fence) is not int:
            raise errors.RequestInvalid("The request's fence is not a number")
        return request


class Host:
    """A replica. ``max_ongoing_requests`` is 1: one 3-D study uses all its threads.

    ``runtime`` is openvino, torch or auto; ``bytes_max`` bounds the packages that stay loaded.
    """

    def __init__(self, cache_dir: str, mlflow_uri: str, threads: int, runtime: str, bytes_max: int) -> None:
        def load(digest: str) -> Predictor:
            return Predictor(cache.ensure(mlflow_uri, digest, Path(cache_dir)), threads, runtime)

        self._shelf = cache.Shelf(load, bytes_max)
        # A cancelled call leaves its thread computing; the next one must not share the device with it.
        self._one_at_a_time = threading.Lock()

    @serve.multiplexed(max_num_models_per_replica=MODELS_KNOWN_TO_ROUTER)  # type: ignore[untyped-decorator]
    async def ready(self, digest: str) -> str:
        """Load a package, and so tell Serve's router that this replica has it.

        Returns the digest and not the predictor: Serve keeps up to 64 of what is returned here, counted and
        not weighed, and the bound in bytes must be the only reason for which a version stays in memory.
        """
        await asyncio.to_thread(self._shelf.get, digest)
        return digest

    async def warm(self, digest: str) -> dict[str, Any]:
        """Load a package before anybody asks for it; returns ``{"ok": digest}`` or ``{"error": {...}}``."""
        try:
            return {"ok": await self.ready(digest)}
        except RadfleetError as error:
            return {"error": record(error)}

    async def answer(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Segment the study of a ``Request``; returns ``{"ok": summary}`` or ``{"error": {...}}``.

        Our named errors come back as data: they are answers, not crashes, and Ray would wrap them.
        """
        try:
            request = Request.read(fields)
            # In a thread, because the health check shares this loop and a study takes seconds.
            await self.ready(request.digest)
            return {"ok": await asyncio.to_thread(self._answer, request)}
        except RadfleetError as error:
            return {"error": record(error)}

    def _answer(self, request: Request) -> dict[str, Any]:
        with self._one_at_a_time:
            predictor = self._shelf.get(request.digest)
            return segment(predictor, request)

    def check_health(self) -> None:
        """Alive. A model is never run here: a slow one would have the replica replaced."""


def record(error: RadfleetError) -> dict[str, str]:
    """A named error as JSON: its code, and the three texts."""
    return {"code": error.code, "what": error.what, "why": error.why_text, "cure": error.cure_text}


def segment(predictor: Predictor, request: Request) -> dict[str, Any]:
    """Answer a request with a loaded package: writes mask, brain, probability and segmentation.json.

    Refuses with ``IdentityMismatch`` when the loaded bytes are not those of the request's digest. What a
    model's own code raises becomes ``ModelFailed`` with the exception's type alone: its text may hold values.
    """
    if predictor.digest != request.digest:
        raise errors.IdentityMismatch("Another version is loaded than the one that this study is bound to")
    volume = load_volume(Path(request.volume_dir))
    try:
        return save(predictor.predict(volume), request)
    except RadfleetError:
        raise
    except OSError as error:
        raise errors.AnswerNotSaved(why=os.strerror(error.errno or 0)) from error
    except Exception as error:
        raise errors.ModelFailed("The model failed on this study", type(error).__name__) from error


def save(prediction: Prediction, request: Request) -> dict[str, Any]:
    """Write an answer into the request's ``out_dir`` and return its summary, paths and SHA-256 included."""
    out = Path(request.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, file in FILES.items():
        np.save(out / file, getattr(prediction.segmentation, name), allow_pickle=False)
        files[file] = hashlib.sha256((out / file).read_bytes()).hexdigest()
    summary = {
        **asdict(request),
        "digest": prediction.digest,
        "runtime": prediction.runtime,
        "device": prediction.device,
        "seconds": {name: round(value, 4) for name, value in prediction.seconds.items()},
        "numbers": {name: float(value) for name, value in prediction.segmentation.numbers.items()},
        "warnings": list(prediction.segmentation.warnings),
        "files": files,
    }
    (out / SUMMARY).write_text(json.dumps(summary, allow_nan=False), encoding="utf-8")
    return summary
