"""The doorway to Grafana: the dashboards in this tree, and marks at promotions, rollbacks and changes of scanners.

Idempotent: what is there already is left alone, so it may run on a timer. Shapes of requests follow Grafana's OpenAPI.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from monitoring.grafana.dashboards import FOLDER_TITLE, FOLDER_UID, TAG, Json
from monitoring.grafana.errors import GrafanaAway, GrafanaRefused, GrafanaUnset
from monitoring.grafana.marks import Mark
from registry.core.settings import Settings

TIMEOUT_S = 10.0
MARKS_MAX = 200
# Given by the server, so they say nothing about a difference.
_GIVEN = ("id", "version")


def sync(settings: Settings, dashboards: Sequence[Json], marks: Sequence[Mark]) -> list[Json]:
    """Push; one row a thing: {"what", "name", "done": "created" | "changed" | "unchanged"}.

    Of the marks the newest ``MARKS_MAX`` are pushed. Raises GrafanaUnset, GrafanaAway, GrafanaRefused.
    """
    api = _api(settings)
    done = [_folder(api)]
    done += [_dashboard(api, one) for one in dashboards]
    done += _marks(api, sorted(marks, key=lambda mark: mark.at, reverse=True)[:MARKS_MAX])
    return done


def _folder(api: Any) -> Json:
    if _ask(lambda: api.GET(f"/folders/{FOLDER_UID}")) is not None:
        return _row("folder", FOLDER_TITLE, "unchanged")
    _ask(lambda: api.POST("/folders", json={"uid": FOLDER_UID, "title": FOLDER_TITLE}))
    return _row("folder", FOLDER_TITLE, "created")


def _dashboard(api: Any, wanted: Json) -> Json:
    there = _ask(lambda: api.GET(f"/dashboards/uid/{wanted['uid']}"))
    if there is not None and there.get("meta", {}).get("folderUid") == FOLDER_UID:
        has = {key: value for key, value in there["dashboard"].items() if key not in _GIVEN}
        if has == wanted:
            return _row("dashboard", wanted["title"], "unchanged")
    body = {
        "dashboard": wanted,
        "folderUid": FOLDER_UID,
        "overwrite": True,
        "message": "radfleet dashboard sync",
    }
    _ask(lambda: api.POST("/dashboards/db", json=body))
    return _row("dashboard", wanted["title"], "created" if there is None else "changed")


def _marks(api: Any, marks: Sequence[Mark]) -> Iterator[Json]:
    """One annotation a mark; its own tag says that it is there."""
    if not marks:
        return
    # Whatever the marks are about, ours are the newest: Grafana lists those first.
    known = _ask(lambda: api.GET(f"/annotations?tags={TAG}&type=annotation&limit={10 * MARKS_MAX}")) or []
    there = {tag for one in known for tag in one.get("tags", [])}
    for mark in marks:
        if mark.tag in there:
            yield _row("annotation", mark.name, "unchanged")
            continue
        # Not the library's add_annotation: it sends "dashboardId": null, which the OpenAPI does not allow.
        body = {
            "time": int(mark.at.timestamp() * 1000),
            "tags": [TAG, *mark.tags, mark.tag],
            "text": mark.text,
        }
        _ask(lambda body=body: api.POST("/annotations", json=body))  # type: ignore[misc]
        yield _row("annotation", mark.name, "created")


def _row(what: str, name: str, done: str) -> Json:
    return {"what": what, "name": name, "done": done}


def _api(settings: Settings) -> Any:
    from grafana_api.grafana_face import GrafanaFace

    where, token = urlsplit(settings.grafana_url), settings.secret("grafana-token")
    if where.scheme not in ("http", "https") or not where.hostname or not token:
        raise GrafanaUnset("no Grafana is set")
    prefix = where.path.strip("/")
    return GrafanaFace(
        auth=token, host=where.hostname, port=where.port, protocol=where.scheme, timeout=TIMEOUT_S,
        url_path_prefix=f"{prefix}/" if prefix else "",
    ).api  # fmt: skip


def _ask(call: Callable[[], Any]) -> Any:
    """The answer, None for 404. The text of a refusal may repeat what was sent, so only its number is told."""
    from grafana_api.grafana_api import GrafanaException
    from requests import RequestException

    try:
        return call()
    except GrafanaException as error:
        if error.status_code == 404:
            return None
        if error.status_code >= 500:
            raise GrafanaAway(f"Grafana answers {error.status_code}") from None
        raise GrafanaRefused(f"Grafana answers {error.status_code}") from None
    except (RequestException, ValueError) as error:
        raise GrafanaAway(f"Grafana does not answer ({type(error).__name__})") from None
