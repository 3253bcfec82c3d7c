"""Reads multipart/related bodies as they arrive and hands each part on in pieces, never whole in memory.

Grammar: RFC 2046 5.1.1. Pushed with bytes, it calls a sink; limits are counted while reading, never believed
from a header.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from registry.core.settings import LIMITS
from serving.doors.errors import BadMultipart, TooLarge, UnsupportedMedia

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_PARAMETER = re.compile(r';\s*([0-9A-Za-z\-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))')
_PREAMBLE_BYTES_MAX = 1_024


class Sink(Protocol):
    """Who takes the parts; an exception raised here ends the reading."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """A part starts; header names are in lower case."""

    def data(self, piece: memoryview) -> None:
        """The next bytes of the part."""

    def end(self) -> None:
        """The part is complete."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Counts and bytes that one request may have."""

    parts: int = LIMITS.request_parts_max
    total: int = LIMITS.request_bytes_max
    header: int = LIMITS.part_header_bytes_max


def boundary_of(content_type: str) -> bytes:
    """The boundary of a STOW-RS Content-Type. Raises UnsupportedMedia, BadMultipart."""
    kind, _, _ = content_type.partition(";")
    found: list[tuple[str, str, str]] = _PARAMETER.findall(content_type[:1_024])
    parameters = {name.lower(): (quoted or bare) for name, quoted, bare in found}
    if kind.strip().lower() != "multipart/related":
        raise UnsupportedMedia
    if parameters.get("type", "application/dicom").lower() != "application/dicom":
        raise UnsupportedMedia
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise BadMultipart(
            "the boundary is absent or not allowed", why="RFC 2046 allows 1 to 70 characters of a set."
        )
    return boundary.encode("ascii")


class MultipartReader:
    """Push bytes with ``feed``, then call ``close``; raises BadMultipart, TooLarge and what the sink raises."""

    def __init__(self, boundary: bytes, sink: Sink, limits: BodyLimits | None = None) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._sink = sink
        self._limits = limits or BodyLimits()
        # A leading CRLF lets the first delimiter, which has none before it, look like all others.
        self._buffer = bytearray(b"\r\n")
        self._state = "preamble"
        self._skipped = 0
        self.parts = 0
        self.total = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        self.total += len(piece)
        if self.total > self._limits.total:
            raise TooLarge(
                "the request is too large", why=f"One request may have {self._limits.total} bytes."
            )
        if self._state == "epilogue":
            return
        self._buffer += piece
        while self._advance():
            pass

    def close(self) -> None:
        """The body has ended. Raises BadMultipart when no closing boundary came."""
        if self._state != "epilogue":
            raise BadMultipart(
                "the body ends before its closing boundary", why="The connection was cut or a part is short."
            )
        if not self.parts:
            raise BadMultipart("the body has no part")

    def _advance(self) -> bool:
        """One step of the grammar; False when more bytes are needed."""
        if self._state in ("preamble", "body"):
            return self._to_delimiter()
        if self._state == "after":
            return self._after_delimiter()
        if self._state == "headers":
            return self._headers()
        self._buffer.clear()
        return False

    def _to_delimiter(self) -> bool:
        at = self._buffer.find(self._delimiter)
        if at < 0:
            keep = len(self._delimiter) - 1
            self._emit(max(0, len(self._buffer) - keep))
            return False
        self._emit(at)
        del self._buffer[: len(self._delimiter)]
        if self._state == "body":
            self._sink.end()
        self._state = "after"
        return True

    def _emit(self, count: int) -> None:
        if count <= 0:
            return
        if self._state == "body":
            with memoryview(self._buffer) as view, view[:count] as piece:
                self._sink.data(piece)
        else:
            self._skipped += count
            if self._skipped > _PREAMBLE_BYTES_MAX:
                raise BadMultipart(
                    "no boundary at the start of the body", why="It is not the one of the Content-Type."
                )
        del self._buffer[:count]

    def _after_delimiter(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] == b"--":
            self._state = "epilogue"
            return True
        line = self._buffer.find(b"\r\n")
        if line < 0:
            if len(self._buffer) > self._limits.header:
                raise BadMultipart("a boundary line does not end")
            return False
        if self._buffer[:line].strip(b" \t"):
            raise BadMultipart("a boundary line has text after the boundary")
        # The CRLF stays: a part without headers is then CRLF CRLF like any other.
        del self._buffer[:line]
        self._state = "headers"
        return True

    def _headers(self) -> bool:
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0 and len(self._buffer) <= self._limits.header:
            return False
        if at < 0 or at > self._limits.header:
            raise BadMultipart(
                "the headers of a part are too long", why=f"They may have {self._limits.header} bytes."
            )
        headers = dict[str, str]()
        for line in bytes(self._buffer[:at]).decode("latin-1").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
            elif line:
                raise BadMultipart("a header line of a part has no colon")
        self.parts += 1
        if self.parts > self._limits.parts:
            raise TooLarge(
                "the request has too many parts", why=f"One request may have {self._limits.parts} parts."
            )
        del self._buffer[: at + 4]
        self._state = "body"
        self._sink.begin(headers)
        return True
