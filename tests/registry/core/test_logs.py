"""No patient data in logs (promise P9)."""

import logging

from registry.core import logs


def test_unknown_keys_uids_and_names_are_removed() -> None:
    line = logs.redact(
        None,
        "info",
        {
            "event": "stored 1.2.840.113619.2.5.1762583153",
            "patient": "x",
            "state": "Doe^Jane done",
            "count": 3,
        },
    )
    assert line == {
        "event": f"stored {logs.HIDDEN}", "patient": logs.HIDDEN, "state": f"{logs.HIDDEN} done", "count": 3,
    }  # fmt: skip


def test_library_log_lines_lose_values_and_tracebacks() -> None:
    try:
        raise ValueError("Invalid value for PN: 'Doe^Jane'")
    except ValueError as error:
        record = logging.LogRecord(
            "pydicom",
            logging.WARNING,
            "f",
            1,
            "bad UID %s",
            ("1.2.3.4.5.6.7",),
            (type(error), error, error.__traceback__),
        )
    assert logs._Scrub().filter(record)
    text = logging.Formatter("%(message)s").format(record)
    assert "Doe" not in text
    assert "1.2.3.4.5" not in text
    assert "ValueError" in text
