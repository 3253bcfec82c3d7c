"""What our own pages ask of the HTTP door, for they reach neither the store nor DICOM: pictures, masks and readings."""

import asyncio
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from registry.core.db import Database
from registry.core.settings import LIMITS, Settings
from serving.doors.errors import TooLarge
from serving.doors.http import HEADERS, key, pieces
from serving.results import pictures

if TYPE_CHECKING:
    from serving.reviews.reviews import Said

SAID = "radfleet-review"
"""The header with what the reader says, as JSON; the body is the mask, for an address would stand in logs."""


def attach(app: FastAPI, settings: Settings, database: Database) -> None:
    """Add the addresses to a door. All of them want the word that pages and door share: they raise KeyWrong."""
    draw = pictures.drawer(settings, database)
    turn = asyncio.Semaphore(1)  # a large mask takes some hundred megabytes while it is compared

    @app.get("/pictures/{clinic}/{picture}")
    def picture(request: Request, clinic: UUID, picture: UUID) -> Response:
        return Response(draw(key(request), clinic, picture), media_type="image/png", headers=HEADERS)

    @app.get("/masks/{clinic}/{study}/{task}")
    def mask(request: Request, clinic: UUID, study: UUID, task: str) -> Response:
        pictures.check(settings, key(request))
        from serving.reviews import masks, reviews

        _, labels, grid = reviews.delivered(settings, database, clinic, study, task)
        packed = masks.encode(labels, grid, str(study))
        return Response(packed, media_type="application/gzip", headers=HEADERS)

    @app.post("/reviews/{clinic}/{study}")
    async def review(request: Request, clinic: UUID, study: UUID) -> JSONResponse:
        pictures.check(settings, key(request))
        from serving.reviews import reviews

        said = _said(request.headers.get(SAID, ""))
        with tempfile.TemporaryDirectory(prefix="radfleet-mask-") as folder:
            said = replace(said, mask=await _mask(request, Path(folder)))
            async with turn:
                made = await run_in_threadpool(reviews.add, settings, database, clinic, study, said)
        told = {"id": str(made.id), "decision": made.decision, "blinded": made.blinded, "dice": made.dice}
        return JSONResponse(told, headers=HEADERS)


def _said(header: str) -> "Said":
    """What a reader says, without the mask. Raises ReviewUnfit."""
    from serving.reviews.errors import ReviewUnfit
    from serving.reviews.reviews import Said

    try:
        it = json.loads(header)
        minutes = None if it["minutes"] is None else float(it["minutes"])
        decision, reader, note, task = (str(it[name]) for name in ("decision", "reader", "note", "task"))
        return Said(decision, reader, None, it["blinded"] is True, minutes, note, task)
    except (ValueError, KeyError, TypeError):
        raise ReviewUnfit("what the reader says did not come with the mask") from None


async def _mask(request: Request, folder: Path) -> Path | None:
    """The body as a file with the ending that its first bytes ask for; None for an empty one. Raises TooLarge."""
    body = bytearray()
    async for piece in pieces(request):
        body += piece
        if len(body) > LIMITS.mask_bytes_max:
            raise TooLarge(
                "this mask is too large", why=f"A mask may have {LIMITS.mask_bytes_max >> 20} MiB."
            )
    if not body:
        return None
    ending = ".dcm" if body[128:132] == b"DICM" else ".nii.gz" if body[:2] == b"\x1f\x8b" else ".nii"
    path = folder / f"mask{ending}"
    await run_in_threadpool(path.write_bytes, body)
    return path
