"""The pages as an application: addresses, sign-in, errors, headers, and the JSON twin of every page."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from monitoring.web import desk as desks
from monitoring.web.desk import COOKIE, DOOR_COOKIE, Desk, Told, Visit
from monitoring.web.errors import PageUnknown
from monitoring.web.pages import (
    clinic,
    flag,
    fleet,
    health,
    help,
    model,
    onboarding,
    promotion,
    study,
    vendor,
    work,
)
from monitoring.web.render import HEADERS, SANDBOX, STATIC, Frame, Page, error_page, html, problem, twin
from registry.core.db import Database
from registry.core.errors import RadfleetError
from registry.core.logs import log
from registry.core.settings import Settings
from registry.processes import announce_ready
from registry.sign_in import sessions
from registry.sign_in.errors import SessionOver

Show = Callable[[Visit], Page]
Do = Callable[[Visit, Mapping[str, str]], Told]
Take = Callable[[Visit, Mapping[str, str], bytes], Told]  # a form with a file

PAGES: Mapping[str, Show] = {
    "/": fleet.show,
    "/work": work.show,
    "/clinics/{clinic}": clinic.show,
    "/clinics/{clinic}/onboarding": onboarding.show,
    "/flags": flag.many,
    "/flags/{id}": flag.one,
    "/promotions": promotion.many,
    "/promotions/{id}": promotion.one,
    "/studies": study.many,
    "/studies/{study}": study.one,
    "/vendors": vendor.show,
    "/models": model.many,
    "/models/{digest}": model.one,
    "/health": health.show,
    "/help": help.show,
    "/help/errors/{code}": help.error,
}
FORMS: Mapping[str, Do] = {
    "/clinics/{clinic}/onboarding/accept": onboarding.accept,
    "/flags/{id}/acknowledge": flag.acknowledge,
    "/flags/{id}/mute": flag.mute,
    "/flags/{id}/resolve": flag.resolve,
    "/promotions/{id}/approve": promotion.approve,
    "/promotions/{id}/apply": promotion.apply,
    "/promotions/{id}/withdraw": promotion.withdraw,
    "/promotions/{id}/rollback": promotion.rollback,
}
FILES: Mapping[str, Take] = {"/studies/{study}/read/{task}": study.read}
MASK_NAME = 'attachment; filename="mask.nii.gz"'


def application(settings: Settings, db: Database) -> ASGIApp:
    """All pages over one database, each with its twin."""
    return Twins(routes(settings, db))


def routes(settings: Settings, db: Database) -> FastAPI:
    """All addresses."""
    app = FastAPI(title="Radfleet", docs_url=None, redoc_url=None, openapi_url=None)
    desk = Desk(settings, db)
    _doors(app, desk)
    _sign_in(app, desk)
    for path, show in PAGES.items():
        app.add_api_route(path, _page(desk, show), methods=["GET"])
    for path, do in FORMS.items():
        app.add_api_route(path, _form(desk, do), methods=["POST"])
    app.add_api_route(
        "/studies/{study}/read/{task}", _form(desk, study.read, desks.form_with_file), methods=["POST"]
    )
    mask = _bytes(desk, study.mask, "application/gzip", HEADERS | {"Content-Disposition": MASK_NAME})
    app.add_api_route("/studies/{study}/mask/{task}", mask, methods=["GET"])
    picture = _bytes(desk, study.picture, "image/png", HEADERS)
    app.add_api_route("/studies/{study}/picture/{task}", picture, methods=["GET"])
    sandbox = HEADERS | {"Content-Security-Policy": SANDBOX}
    for path, find in (
        ("/flags/{id}/report", flag.report),
        ("/clinics/{clinic}/reports/{digest}", clinic.report),
    ):
        app.add_api_route(path, _bytes(desk, find, "text/html; charset=utf-8", sandbox), methods=["GET"])

    @app.exception_handler(RadfleetError)
    def named(request: Request, error: RadfleetError) -> Response:
        return _refused(request, error)

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> Response:
        return _refused(request, PageUnknown(), error.status_code)

    @app.exception_handler(Exception)
    def bug(request: Request, error: Exception) -> Response:
        log().error("web.bug", error_type=type(error).__name__)
        return _refused(request, RadfleetError("this page has a fault"))

    return app


class Twins:
    """``/clinics/north.json`` is ``/clinics/north`` for programs, and so is the same address with Accept."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take ``.json`` off the address and remember it."""
        if scope["type"] == "http" and scope["path"].endswith(".json") and scope["method"] == "GET":
            bare = scope["path"].removesuffix(".json").removesuffix("/index")
            scope = {**scope, "path": bare or "/", "state": {**scope.get("state", {}), "twin": True}}
        await self._app(scope, receive, send)


def _twin(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return getattr(request.state, "twin", False) or ("json" in accept and "html" not in accept)


def _frame(request: Request, who: Any = None) -> Frame:
    token = request.cookies.get(COOKIE, "")
    query = f"?{request.url.query}" if request.url.query else ""
    address = "/index.json" if request.url.path == "/" else f"{request.url.path}.json"
    return Frame(who, desks.mark(token) if who else "", who.said if who else None, address + query)


def _page(desk: Desk, show: Show) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        who = desks.session(desk, request)
        request.state.who = who
        page = show(Visit(desk, who, request.path_params, request.query_params))
        return twin(page) if _twin(request) else html(page, _frame(request, who))

    return endpoint


def _form(desk: Desk, do: Callable[..., Told], read: Any = desks.form_alone) -> Any:
    async def endpoint(request: Request) -> Response:
        token = request.cookies.get(COOKIE, "")
        who = await run_in_threadpool(desks.session, desk, request)
        request.state.who = who
        sent = await read(request, token)  # what the page takes beside the visit
        visit = Visit(desk, who, request.path_params, request.query_params)
        where, said = await run_in_threadpool(do, visit, *sent)

        def tell() -> None:
            with desk.db.system() as conn:
                sessions.say(conn, token, dict(said))

        await run_in_threadpool(tell)
        return RedirectResponse(where, 303, headers=HEADERS)

    return endpoint


def _bytes(
    desk: Desk, find: Callable[[Visit], bytes], kind: str, headers: Mapping[str, str]
) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        who = desks.session(desk, request)
        request.state.who = who
        visit = Visit(desk, who, request.path_params, request.query_params)
        return Response(find(visit), media_type=kind, headers=dict(headers))

    return endpoint


def _refused(request: Request, error: RadfleetError, status: int = 0) -> Response:
    """An error as a page or problem document; who is not signed in is led to the door and back."""
    over = isinstance(error, SessionOver)
    if _twin(request):
        return problem(error, 401 if over else status or error.answer.http)
    if over:
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        query = urlencode({"next": back}) if request.method == "GET" and back != "/" else ""
        return RedirectResponse(f"/sign-in{'?' + query if query else ''}", 303, headers=HEADERS)
    page = error_page(error)
    response = html(page, _frame(request, getattr(request.state, "who", None)))
    response.status_code = status or page.status
    return response


def _doors(app: FastAPI, desk: Desk) -> None:
    """What needs nobody to be signed in: what is ready, and the files of the look."""

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"}, headers=HEADERS)

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        with desk.db.system():  # the pool asks the server before it lends a connection
            pass
        return JSONResponse({"status": "ready"}, headers=HEADERS)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise PageUnknown
        data, kind = STATIC[name]
        headers = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        return Response(data, media_type=kind, headers=headers)


def _sign_in(app: FastAPI, desk: Desk) -> None:
    """Sign-in and out."""

    def door(request: Request, error: RadfleetError | None = None, name: str = "") -> Response:
        token = request.cookies.get(DOOR_COOKIE) or desks.fresh_token()
        back = desks.local(request.query_params.get("next", "/"))
        facts = {"next": back, "name": name, "error": error and {"what": error.what, "cure": error.cure_text}}
        page = Page("sign_in.html", "", "Sign in with your name and key.", facts, 403 if error else 200)
        if _twin(request):
            return twin(page)
        response = html(page, Frame(mark=desks.mark(token)))
        response.set_cookie(**desks.cookie(DOOR_COOKIE, token, request, 3600))
        return response

    @app.get("/sign-in")
    def sign_in(request: Request) -> Response:
        return door(request)

    @app.post("/sign-in")
    async def begin(request: Request) -> Response:
        fields = await desks.form(request, request.cookies.get(DOOR_COOKIE, ""))

        def enter() -> tuple[str, str]:
            with desk.db.system() as conn:
                token = sessions.begin(conn, fields.get("name", ""), fields.get("key", ""))
                return token, desks.first(sessions.find(conn, token), fields.get("next", "/"))

        try:
            token, where = await run_in_threadpool(enter)
        except RadfleetError as error:
            log().info("web.sign_in_refused", code=error.code)
            return door(request, error, fields.get("name", "")[:60])
        response = RedirectResponse(where, 303, headers=HEADERS)
        response.set_cookie(**desks.cookie(COOKIE, token, request, sessions.SESSION_HOURS * 3600))
        response.delete_cookie(DOOR_COOKIE, path="/")
        return response

    @app.post("/sign-out")
    async def end(request: Request) -> Response:
        token = request.cookies.get(COOKIE, "")
        await desks.form(request, token)

        def leave() -> None:
            with desk.db.system() as conn:
                sessions.end(conn, token)

        await run_in_threadpool(leave)
        response = RedirectResponse("/sign-in", 303, headers=HEADERS)
        response.delete_cookie(COOKIE, path="/")
        return response


def serve(settings: Settings, db: Database) -> None:
    """Run the pages of an installation until they are told to stop."""
    import uvicorn

    # No access log: it would tell who looked at which study. The proxy in front may say that it speaks TLS.
    config = uvicorn.Config(
        application(settings, db), settings.bind, settings.web_port, timeout_keep_alive=15, limit_concurrency=128,
        backlog=128, timeout_graceful_shutdown=10, access_log=False, server_header=False, log_config=None,
        lifespan="off",
    )  # fmt: skip
    log().info("web.open", port=settings.web_port)
    announce_ready()
    uvicorn.Server(config).run()
