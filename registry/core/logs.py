"""Structured logs with a filter that lets no patient data through."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

# What may appear is an allow-list of keys; text values are scrubbed of DICOM UIDs and person names as well.
ALLOWED = frozenset(
    [
        "event",
        "level",
        "timestamp",
        "part",
        "clinic",
        "study_id",
        "revision",
        "job_id",
        "fence",
        "code",
        "task",
        "digest",
        "state",
        "outcome",
        "count",
        "seconds",
        "port",
        "pid",
        "lane",
        "attempt",
        "kind",
        "reason",
        "error_type",
        "status",
        "bytes",
        "address",
        "name",
        "restarts",
    ]
)
_UID = re.compile(r"\b[0-2](?:\.\d+){4,}\b")
_PERSON = re.compile(r"\b[^\s^]+\^[^\s]+")
HIDDEN = "[removed]"


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop unknown keys, and blank UIDs and ``Name^First`` shapes inside the values that stay."""
    for key in list(event):
        if key not in ALLOWED:
            event[key] = HIDDEN
        elif isinstance(event[key], str):
            event[key] = _PERSON.sub(HIDDEN, _UID.sub(HIDDEN, event[key]))
    return event


class _Scrub(logging.Filter):
    """The same filter for libraries that log by themselves; their tracebacks carry values, so they are cut."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _PERSON.sub(HIDDEN, _UID.sub(HIDDEN, record.getMessage())), None
        if record.exc_info and record.exc_info[0]:
            record.msg += f" ({record.exc_info[0].__name__})"
            record.exc_info = record.exc_text = None
        return True


def configure(part: str, *, level: str = "info", as_json: bool = False) -> None:
    """Set up logging of this process; every line names its part."""
    import structlog  # 0.2 s, which a plain `radfleet --help` should not pay

    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Scrub())
    logging.basicConfig(
        level=logging.WARNING, handlers=[handler], force=True, format="%(levelname)s %(name)s %(message)s"
    )
    render: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            redact,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(part=part)


def log() -> Any:
    """The logger of this process."""
    import structlog

    return structlog.get_logger()
