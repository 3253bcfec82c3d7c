"""``radfleet doctor``: checks of one installation, each with what it means and what to do about it.

A check is a function of the settings that yields findings; none changes anything, none waits longer than a few
seconds, and one that breaks becomes a finding itself.
"""

import importlib.util
import os
import re
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from urllib.parse import urlsplit

from registry.core.db import DatabaseAway
from registry.core.settings import LIMITS, Settings

PYTHON = (3, 11)
POSTGRES_MIN = 150_000
SKEW_WARNING_S = 2.0
SKEW_ERROR_S = 30.0
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)(;.*)?")


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the doctor looked at; ``cure`` is empty when all is well."""

    level: Level
    code: str
    what: str
    why: str = ""
    cure: str = ""


Check = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings) -> Sequence[Finding]:
    """Every finding of every check, in a fixed order."""
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += check(settings)
        except Exception as error:  # noqa: BLE001 - a broken check must not hide the others
            name, kind = check.__name__, type(error).__name__
            found.append(
                Finding(Level.ERROR, f"doctor.{name}", f"the check {name} failed with {kind}",
                        "Its text may hold values and is not shown.", "Report this line; the other checks stand.")
            )  # fmt: skip
    return found


def lines(finding: Finding) -> str:
    """The form for people."""
    rest = [f"         {key}: {text}" for key, text in (("why", finding.why), ("cure", finding.cure)) if text]
    return "\n".join([f"{finding.level:<7}  {finding.what}", *rest])


def as_row(finding: Finding) -> dict[str, object]:
    """The form for programs."""
    return asdict(finding)


def python(_settings: Settings) -> Iterator[Finding]:
    """The interpreter."""
    here = sys.version_info[:3]
    text = f"Python {'.'.join(map(str, here))}"
    if here[:2] == PYTHON:
        yield Finding(Level.OK, "doctor.python", text)
    else:
        yield Finding(Level.ERROR, "doctor.python", text, "The tested set of libraries is one for Python 3.11.",
                      "Run make setup with Python 3.11.")  # fmt: skip


def packages(_settings: Settings) -> Iterator[Finding]:
    """Installed versions against the ranges that pyproject declares."""
    try:
        wanted = requires("radfleet") or []
    except PackageNotFoundError:
        yield Finding(Level.WARNING, "doctor.packages", "radfleet is not installed, only on the path",
                      "The versions of its libraries cannot be compared.", "Run make setup.")  # fmt: skip
        return
    bad = [text for line in wanted if (text := _outside(line))]
    for text in bad:
        yield Finding(Level.ERROR, "doctor.packages", text, "Radfleet was not tested with it.",
                      "Run make setup: it installs the exact set of constraints.txt.")  # fmt: skip
    if not bad:
        yield Finding(Level.OK, "doctor.packages", "every library lies in its declared range")


def _outside(requirement: str) -> str:
    from packaging.specifiers import SpecifierSet

    parts = _REQUIREMENT.fullmatch(requirement)
    if parts is None or "extra" in (parts[3] or ""):
        return ""
    name, wanted = parts[1], SpecifierSet(parts[2].strip())
    try:
        here = version(name)
    except PackageNotFoundError:
        return f"{name} is not installed (wanted {wanted})"
    return "" if wanted.contains(here, prereleases=True) else f"{name} {here} is outside {wanted}"


def disk(settings: Settings) -> Iterator[Finding]:
    """Free space where the studies go."""
    place = _existing(settings.root)
    free = shutil.disk_usage(place).free
    text = f"{free / (1 << 30):.1f} GiB free for {settings.root}"
    least = LIMITS.disk_free_bytes_min
    if free >= 2 * least:
        yield Finding(Level.OK, "doctor.disk", text)
    else:
        level = Level.WARNING if free >= least else Level.ERROR
        yield Finding(level, "doctor.disk", text, f"Below {least >> 30} GiB the doors refuse studies.",
                      "Free space, or set RADFLEET_HOME to a larger disk.")  # fmt: skip


def directories(settings: Settings) -> Iterator[Finding]:
    """Rights of the data directory."""
    place = _existing(settings.root)
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(Level.ERROR, "doctor.directories", f"{place} cannot be written", "All state lives there.",
                      "Give this user the right to write there, or set RADFLEET_HOME.")  # fmt: skip
        return
    open_ones = [
        d for d in (settings.store_dir, settings.secrets_dir) if d.exists() and d.stat().st_mode & 0o007
    ]
    for folder in open_ones:
        yield Finding(Level.ERROR, "doctor.directories", f"{folder} is open to every user of this machine",
                      "It holds patient data or secrets.", f"Run chmod o-rwx {folder}")  # fmt: skip
    if not open_ones:
        yield Finding(Level.OK, "doctor.directories", f"{settings.root} is writable and closed to others")


def secret_files(settings: Settings) -> Iterator[Finding]:
    """Mode and owner of secret files."""
    found = sorted(settings.secrets_dir.glob("[!.]*")) if settings.secrets_dir.is_dir() else []
    bad = [path for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in bad:
        yield Finding(Level.ERROR, "doctor.secrets", f"secret {path.name} can be read by other users",
                      "A secret that others could read counts as known.",
                      f"Run chmod 600 {path}, and change the secret where others use this machine.")  # fmt: skip
    if not bad:
        yield Finding(Level.OK, "doctor.secrets", f"{len(found)} secret files, each for this user alone")


def database(settings: Settings) -> Iterator[Finding]:
    """PostgreSQL: there, new enough, migrated, its clock, and roles that row-level security binds."""
    from registry import doctor_store

    try:
        for role in ("radfleet_app", "radfleet_system", "radfleet_monitor"):
            with doctor_store.connect(settings, role) as conn:
                server = doctor_store.server(conn)
                skew = abs((datetime.now(UTC) - server.now).total_seconds())
            if server.superuser or server.bypasses or server.owns:
                yield Finding(Level.ERROR, "doctor.roles", f"{role} is not bound by row-level security",
                              "A superuser, an owner or a role with BYPASSRLS sees every clinic's rows.",
                              f"Make {role} a plain login role as radfleet up does.")  # fmt: skip
        yield from _server(server.version, skew)
        yield from _migrations(settings)
    except DatabaseAway:
        yield _away("doctor.database", "PostgreSQL", outside=bool(settings.database_url))


def _server(number: int, skew: float) -> Iterator[Finding]:
    text = f"PostgreSQL {number // 10_000}.{number % 10_000} answers"
    if number < POSTGRES_MIN:
        yield Finding(Level.ERROR, "doctor.database", text, "Views need security_invoker, new in 15.",
                      "Use PostgreSQL 15 or newer.")  # fmt: skip
    else:
        yield Finding(Level.OK, "doctor.database", text)
    text = f"the database's clock and this machine's differ by {skew:.1f} s"
    if skew < SKEW_WARNING_S:
        yield Finding(Level.OK, "doctor.clock", text)
    else:
        level = Level.WARNING if skew < SKEW_ERROR_S else Level.ERROR
        yield Finding(level, "doctor.clock", text, "Deadlines use the database's clock, logs this one's.",
                      "Set both machines to one time source (chrony or systemd-timesyncd).")  # fmt: skip


def _migrations(settings: Settings) -> Iterator[Finding]:
    from registry import doctor_store

    states = doctor_store.migration_states(settings)
    missing = [row.name for row in states if row.state == "missing"]
    changed = [row.name for row in states if row.state == "changed"]
    if missing:
        yield Finding(Level.ERROR, "doctor.migrations", f"not applied: {', '.join(missing)}",
                      "This program needs a newer schema.", "Run radfleet db migrate.")  # fmt: skip
    if changed:
        yield Finding(Level.ERROR, "doctor.migrations", f"changed after it was applied: {', '.join(changed)}",
                      "The schema is not the one that this program describes.",
                      "Restore the file as it was released; a change needs a new migration.")  # fmt: skip
    if not missing and not changed:
        yield Finding(Level.OK, "doctor.migrations", f"{len(states)} migrations applied")


def services(settings: Settings) -> Iterator[Finding]:
    """MLflow, Ray and the two doors: whether something listens where they should."""
    at = settings.bind if settings.bind not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - compared, not bound
    for name, host, port, outside in (
        (
            "MLflow",
            *_address(settings.mlflow_url, "127.0.0.1", settings.mlflow_port),
            bool(settings.mlflow_url),
        ),
        ("Ray", *_address(settings.ray_address, "127.0.0.1", settings.ray_port), bool(settings.ray_address)),
        ("the DICOM door", at, settings.dicom_port, False),
        ("the HTTP door", at, settings.http_port, False),
    ):
        code = f"doctor.{name.split()[-2 if name.endswith('door') else 0].lower()}"
        if _listens(host, port):
            yield Finding(Level.OK, code, f"{name} listens at {host}:{port}")
        else:
            yield _away(code, name, outside=outside)


def wire(settings: Settings) -> Iterator[Finding]:
    """How many instances a second a sender gets through."""
    if shutil.which("storescu") is None and shutil.which("dcmsend") is None:
        return
    if os.environ.get("TCP_NODELAY") == "1":
        yield Finding(Level.OK, "doctor.nodelay", "TCP_NODELAY=1 is set for dcmtk's senders")
    else:
        yield Finding(Level.WARNING, "doctor.nodelay", "dcmtk's senders would wait 40 ms an instance here",
                      "dcmtk leaves Nagle's algorithm on unless the variable TCP_NODELAY is 1.",
                      "Set TCP_NODELAY=1 in the environment of dcmsend and storescu.")  # fmt: skip


def libraries(_settings: Settings) -> Iterator[Finding]:
    """Libraries without which a part does not start; found, not imported, because importing takes seconds."""
    parts: Mapping[str, str] = {
        "pynetdicom": "the DICOM door", "fastapi": "the HTTP door", "ray": "the engine", "openvino": "the predictor",
        "torch": "the predictor", "highdicom": "results", "mlflow": "model versions",
    }  # fmt: skip
    gone = {name: part for name, part in parts.items() if importlib.util.find_spec(name) is None}
    for name, part in gone.items():
        yield Finding(Level.ERROR, "doctor.libraries", f"{name} is missing", f"It is needed by {part}.",
                      "Run make setup.")  # fmt: skip
    if not gone:
        yield Finding(Level.OK, "doctor.libraries", f"all {len(parts)} large libraries are there")


def _away(code: str, name: str, *, outside: bool) -> Finding:
    if outside:
        return Finding(Level.ERROR, code, f"{name} does not answer", "This installation is set to use an outside one.",
                       "Start it, or correct the RADFLEET_ variable that names it.")  # fmt: skip
    return Finding(Level.WARNING, code, f"{name} does not answer", "It runs while the installation is up.",
                   "Run radfleet up; if it is up, radfleet status names the part that failed.")  # fmt: skip


def _address(url: str, host: str, port: int) -> tuple[str, int]:
    from urllib.parse import urlsplit

    if not url:
        return host, port
    parts = urlsplit(url if "://" in url else f"//{url}")
    return parts.hostname or host, parts.port or (443 if parts.scheme == "https" else port)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _existing(path: Path) -> Path:
    """The nearest folder that exists: before the first ``radfleet up`` there is no data directory."""
    return next(p for p in (path, *path.parents) if p.exists())


def mail(settings: Settings) -> Iterator[Finding]:
    """Whether e-mail about flags can be sent at all; nothing is sent."""
    if not (settings.mail_server or settings.mail_from or settings.mail_to):
        return
    url = urlsplit(settings.mail_server)
    lacks = [
        text
        for bad, text in (
            (
                url.scheme not in ("smtp", "smtp+starttls", "smtps") or not url.hostname,
                "RADFLEET_MAIL_SERVER is no address",
            ),
            (not settings.mail_from, "RADFLEET_MAIL_FROM is empty"),
            (not settings.mail_to, "RADFLEET_MAIL_TO is empty"),
            (url.scheme == "smtp" and url.username, "a password would travel without TLS"),
            (
                url.username and not settings.secret("smtp-password"),
                "the secret file smtp-password is absent",
            ),
        )
        if bad
    ]
    if lacks:
        yield Finding(Level.ERROR, "doctor.mail", "e-mail about flags is not sent", f"{'; '.join(lacks)}.",
                      "Set smtps://USER@HOST or smtp+starttls://USER@HOST, sender, recipients, password.")  # fmt: skip
    else:
        yield Finding(Level.OK, "doctor.mail", f"e-mail about flags goes to {url.hostname}")


CHECKS: tuple[Check, ...] = (
    python, packages, libraries, disk, directories, secret_files, database, services, mail, wire,
)  # fmt: skip
