"""The HTTP door: STOW-RS into the same intake as C-STORE, and the two health addresses."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from registry.core.db import Database
from registry.core.errors import RadfleetError
from registry.core.logs import log
from registry.core.settings import LIMITS, Settings
from registry.processes import announce_ready
from serving.doors.errors import (
    BadMultipart,
    BadUid,
    DoorBusy,
    KeyMissing,
    RequestStalled,
    TooLarge,
    UnsupportedMedia,
)
from serving.doors.filestore import Filestore
from serving.doors.headers import quiet
from serving.doors.intake import Hint, Intake, Sender
from serving.doors.multipart import MultipartReader, boundary_of
from serving.doors.stow import StowRequest

IDLE_S = 30.0
REQUESTS_MAX = 12
_PIECE_BYTES = 262_144
_RETRY_AFTER_S = 5
_UID = re.compile(r"[0-9.]{1,64}")
# Where HTTP says more than the error's family: these tell a client library what to do.
_STATUS: dict[type[RadfleetError], int] = {
    KeyMissing: 401,
    RequestStalled: 408,
    TooLarge: 413,
    UnsupportedMedia: 415,
    BadMultipart: 400,
    BadUid: 400,
}
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

FindKey = Callable[[str], Sender]  # API key -> clinic; raises a Forbidden error


def application(
    intake: Intake,
    find: FindKey,
    ready: Callable[[], None],
    hint: Hint | None = None,
    pages: Callable[[FastAPI], None] | None = None,
) -> FastAPI:
    """The door as an ASGI application.

    ``ready`` raises the named error for which the door cannot promise anything; ``pages`` adds what our pages ask.
    """
    app = FastAPI(title="Radfleet", docs_url=None, redoc_url=None, openapi_url=None)
    places = asyncio.Semaphore(REQUESTS_MAX)

    @app.exception_handler(RadfleetError)
    async def _named(_: Request, error: RadfleetError) -> JSONResponse:
        return problem(error)

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"}, headers=HEADERS)

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        ready()
        return JSONResponse({"status": "ready"}, headers=HEADERS)

    async def store(request: Request, study: str) -> JSONResponse:
        clinic = await run_in_threadpool(find, key(request))
        boundary = _checked(request, study)
        if places.locked():
            raise DoorBusy
        async with places:
            stow = StowRequest(intake, clinic.id, study)
            try:
                await _read(request, MultipartReader(boundary, stow))
                await run_in_threadpool(stow.flush)
            finally:
                await run_in_threadpool(stow.discard)
        studies = sorted({r.study_id for r in stow.receipts()})
        if hint and studies:
            await run_in_threadpool(hint, clinic.id, studies)
        return _answer(stow)

    @app.post("/dicom-web/studies")
    async def store_any(request: Request) -> JSONResponse:
        return await store(request, "")

    @app.post("/dicom-web/studies/{study}")
    async def store_one(request: Request, study: str) -> JSONResponse:
        return await store(request, study)

    if pages:
        pages(app)
    return app


def problem(error: RadfleetError) -> JSONResponse:
    """RFC 9457 answer of one named error."""
    status = _STATUS.get(type(error), error.answer.http)
    headers = dict(HEADERS)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.answer.retry:
        headers["Retry-After"] = str(_RETRY_AFTER_S)
    body = error.problem() | {"status": status}
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def key(request: Request) -> str:
    """The bearer's word of a request. Raises KeyMissing."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise KeyMissing
    return token.strip()[:256]


def _checked(request: Request, study: str) -> bytes:
    """The boundary of an acceptable request; refuses early what its headers already give away."""
    if study and not _UID.fullmatch(study):
        raise BadUid("the StudyInstanceUID of the address is not a DICOM UID")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("the request body is compressed")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > LIMITS.request_bytes_max:
        raise TooLarge(
            "the request is too large", why=f"One request may have {LIMITS.request_bytes_max} bytes."
        )
    return boundary_of(request.headers.get("content-type", ""))


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises RequestStalled, BadMultipart where the sender went away."""
    stream: AsyncIterator[bytes] = request.stream().__aiter__()
    while True:
        try:
            yield await asyncio.wait_for(anext(stream), IDLE_S)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise RequestStalled from None
        except ClientDisconnect:
            raise BadMultipart("the sender went away before the end of the body") from None


async def _read(request: Request, reader: MultipartReader) -> None:
    """Push the body through the reader, in pieces large enough that changing threads costs nothing."""
    waiting = bytearray()
    async for piece in pieces(request):
        waiting += piece
        if len(waiting) >= _PIECE_BYTES:
            await run_in_threadpool(reader.feed, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(reader.feed, bytes(waiting))
    await run_in_threadpool(reader.close)


def _answer(stow: StowRequest) -> JSONResponse:
    errors = stow.errors()
    for error in errors:
        log().info("door.refused", code=error.code)
    # Nothing stored and nothing wrong with the objects: tell the client to come again, not that they are bad.
    if errors and not stow.receipts() and all(e.answer.retry for e in errors):
        return problem(errors[0])
    status, body = stow.answer()
    return JSONResponse(body, status, headers=HEADERS, media_type="application/dicom+json")


def serve(settings: Settings, database: Database) -> None:
    """Run the HTTP door of an installation until it is told to stop."""
    import uvicorn

    from registry import clinics
    from serving.doors import pages
    from serving.doors.record import DatabaseRecorder, hint_release

    def find(token: str) -> Sender:
        with database.system() as conn:
            return clinics.by_key(conn, token, clinics.Scope.SUBMIT)

    store = Filestore(settings.store_dir)

    def ready() -> None:
        store.check_space()
        with database.system():  # the pool asks the server before it lends a connection
            pass

    quiet()
    intake = Intake(store, DatabaseRecorder(database, settings))
    app = application(
        intake,
        find,
        ready,
        hint_release(database),
        partial(pages.attach, settings=settings, database=database),
    )
    # No access log: the addresses of STOW-RS hold StudyInstanceUIDs.
    options: dict[str, Any] = {
        "access_log": False,
        "server_header": False,
        "log_config": None,
        "lifespan": "off",
    }
    config = uvicorn.Config(
        app,
        settings.bind,
        settings.http_port,
        timeout_keep_alive=15,
        limit_concurrency=128,
        backlog=128,
        timeout_graceful_shutdown=10,
        **options,
    )
    log().info("door.open", port=settings.http_port)
    announce_ready()
    uvicorn.Server(config).run()
