"""Reads the header tags that imaging needs from a DICOM file in one pass over its bytes.

A full parse by pydicom costs 1 to 3 ms a file and reads nested sequences by recursion; a study has
hundreds of files from strangers. This scanner keeps only listed tags, enters only listed sequences,
bounds depth and element count, and never touches pixels. Layout: PS3.5 section 7 and PS3.10 section 7.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.imaging import limits
from serving.imaging.errors import Malformed, NotDicom, TooLarge, TransferSyntaxRefused
from serving.imaging.tags import SEQUENCES, TAGS, VFRAMES, by_tag

_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_ITEM_END = 0xFFFEE00D
_DELIMITERS, _ITEM, _SEQUENCE_END = 0xFFFE, 0xE000, 0xE0DD
_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_UNDEFINED = 0xFFFFFFFF
_SYNTAX = 0x00020010
_STRUCTURE = SEQUENCES | _PIXELS | {_ITEM_END}
_MAX_TEXT = 1024

Values = dict[int, tuple[bytes, bytes]]
_NUMBER = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d", b"OW": "H", b"OB": "B"}


@dataclass(slots=True)
class Header:
    """The kept tags of one file: raw (VR, bytes) by tag, and where its pixels lie."""

    path: Path
    syntax: str
    little: bool = True
    values: Values = field(default_factory=dict)
    shared: Values = field(default_factory=dict)
    frames: list[Values] = field(default_factory=list)
    vframes: list[Values] = field(default_factory=list)
    pixels_at: int = -1
    pixels_length: int = 0

    def texts(self, name: str, frame: Mapping[int, tuple[bytes, bytes]] | None = None) -> list[str]:
        """The values of a text tag, stripped; [] where absent."""
        found = self._find(name, frame)
        if found is None:
            return []
        text = found[1][:_MAX_TEXT].decode("latin-1").strip("\0 ")
        return [part.strip() for part in text.split("\\")] if text else []

    def text(self, name: str, frame: Mapping[int, tuple[bytes, bytes]] | None = None) -> str:
        """The first value of a text tag, or ''."""
        values = self.texts(name, frame)
        return values[0] if values else ""

    def numbers(self, name: str, frame: Mapping[int, tuple[bytes, bytes]] | None = None) -> list[float]:
        """The values of a numeric tag, whatever its VR; [] where absent or not numbers."""
        found = self._find(name, frame)
        if found is None:
            return []
        vr, raw = found
        kind = _NUMBER.get(vr)
        if kind is None:
            try:
                return [float(part) for part in raw.strip(b"\0 ").split(b"\\")] if raw else []
            except ValueError:
                return []
        size = struct.calcsize(kind)
        count = len(raw) // size
        return list(map(float, struct.unpack_from(f"{'<' if self.little else '>'}{count}{kind}", raw)))

    def number(self, name: str, frame: Mapping[int, tuple[bytes, bytes]] | None = None) -> float | None:
        """The first value of a numeric tag, or None."""
        values = self.numbers(name, frame)
        return values[0] if values else None

    def integer(self, name: str, default: int = 0) -> int:
        """The first value of a numeric tag as an int, or ``default``."""
        value = self.number(name)
        return default if value is None or not abs(value) < 2**53 else int(value)

    def raw(self, name: str) -> bytes:
        """The bytes of a tag, or b''."""
        found = self.values.get(TAGS[name].tag)
        return found[1] if found else b""

    def _find(self, name: str, frame: Mapping[int, tuple[bytes, bytes]] | None) -> tuple[bytes, bytes] | None:
        tag = TAGS[name].tag
        if frame is not None and tag in frame:
            return frame[tag]
        return self.values.get(tag) or self.shared.get(tag)


def scan(path: Path) -> Header:
    """The header of one DICOM file.

    Raises NotDicom, TooLarge, TransferSyntaxRefused or Malformed.
    """
    if path.stat().st_size > limits.MAX_FILE_BYTES:
        raise TooLarge("A file is larger than one file may be.")
    data = path.read_bytes()
    if len(data) < 140 or data[128:132] != b"DICM":
        raise NotDicom()
    header = Header(path, "")
    scanner = _Scanner(data, header)
    try:
        scanner.run()
    except (struct.error, IndexError) as error:
        raise Malformed("A DICOM header ends in the middle of an element.") from error
    return header


_READERS = {
    order: tuple(struct.Struct(order + layout).unpack_from for layout in ("HH2sH", "I", "HHI"))
    for order in "<>"
}


class _Scanner:
    """One pass over the bytes of one file."""

    def __init__(self, data: bytes, header: Header) -> None:
        self.data, self.header = data, header
        self.end = len(data)
        self.seen = 0
        self.explicit = True
        self._order("<")

    def _order(self, order: str) -> None:
        """Byte order: tag, VR and short length in one read; a long length in another; an item, which has no VR."""
        self.head_of, self.long_of, self.item_of = _READERS[order]

    def run(self) -> None:
        """Read the file meta information, then the data set."""
        start = self._meta()
        if self.header.syntax not in limits.ACCEPTED:
            raise TransferSyntaxRefused()
        self.explicit = self.header.syntax != limits.IMPLICIT_LITTLE
        self.header.little = self.header.syntax != limits.EXPLICIT_BIG
        self._order("<" if self.header.little else ">")
        self._elements(start, self.end, self.header.values, 0)

    def _meta(self) -> int:
        """Read group 0002 (always explicit little endian); returns where the data set begins."""
        at = 132
        while at + 8 <= self.end:
            if self.head_of(self.data, at)[0] != 2:
                break
            tag, _, length, body = self._head(at)
            if length > self.end - body:
                raise Malformed("The file meta information ends early.")
            if tag == _SYNTAX:
                self.header.syntax = self.data[body : body + length].decode("latin-1").strip("\0 ")
            at = body + length
        if not self.header.syntax:
            raise NotDicom("The file meta information names no transfer syntax.")
        return at

    def _head(self, at: int) -> tuple[int, bytes, int, int]:
        """Tag, VR, length and start of the value of the element at ``at``."""
        group, element, vr, length = self.head_of(self.data, at)
        tag = group << 16 | element
        if not self.explicit or group == _DELIMITERS:
            known = by_tag.get(tag)
            return tag, known.vr if known else b"UN", self.long_of(self.data, at + 4)[0], at + 8
        if vr in _LONG:
            return tag, vr, self.long_of(self.data, at + 8)[0], at + 12
        return tag, vr, length, at + 8

    def _elements(self, at: int, end: int, into: Values | None, depth: int) -> int:
        """Read elements up to ``end`` or an item delimiter; returns the position after them.

        The body of ``_head`` is repeated for explicit files: this loop is where the time goes.
        """
        if depth > limits.MAX_DEPTH:
            raise Malformed("Sequences are nested deeper than any scanner writes them.")
        data, head_of, long_of, explicit = self.data, self.head_of, self.long_of, self.explicit
        last = end - 8
        while at <= last:
            self.seen += 1
            group, element, vr, length = head_of(data, at)
            tag = group << 16 | element
            if explicit and group != _DELIMITERS:
                body = at + 8
                if vr in _LONG:
                    length, body = long_of(data, body)[0], at + 12
            else:
                tag, vr, length, body = self._head(at)
            if length == _UNDEFINED or tag in _STRUCTURE:
                if tag == _ITEM_END:
                    return body
                if depth == 0 and tag in _PIXELS:
                    self._pixels(length, body)
                    return end
                at = self._sequence(tag, vr, length, body, end, into, depth)
                continue
            if length > end - body:
                raise Malformed("A DICOM element is longer than the file.")
            if into is not None and tag in by_tag:
                into[tag] = (vr, data[body : body + length])
            at = body + length
        if self.seen > limits.MAX_ELEMENTS:
            raise TooLarge("A header holds more elements than any scanner writes.")
        return at

    def _pixels(self, length: int, body: int) -> None:
        self.header.pixels_at = body
        self.header.pixels_length = self.end - body if length == _UNDEFINED else length
        if length == _UNDEFINED and self.header.syntax in limits.NATIVE:
            raise Malformed("Uncompressed pixel data has no length.")

    def _sequence(
        self, tag: int, vr: bytes, length: int, body: int, end: int, into: Values | None, depth: int
    ) -> int:
        """Walk the items of a sequence, keeping listed tags of listed sequences."""
        stop = end if length == _UNDEFINED else body + length
        if stop > end:
            raise Malformed("A DICOM sequence is longer than the file.")
        kept = into if tag in SEQUENCES else None
        # PS3.5 6.2.2: a UN element of undefined length holds an implicit little endian sequence.
        explicit, self.explicit = self.explicit, self.explicit and not (vr == b"UN" and length == _UNDEFINED)
        at = body
        while at + 8 <= stop:
            group, element, size = self.item_of(self.data, at)
            start = at + 8
            if group == _DELIMITERS and element == _SEQUENCE_END:
                at = start
                break
            if group != _DELIMITERS or element != _ITEM:
                raise Malformed("A DICOM sequence holds something that is not an item.")
            target = self._target(tag, kept, depth)
            item_end = stop if size == _UNDEFINED else start + size
            if item_end > stop:
                raise Malformed("A DICOM item is longer than its sequence.")
            if target is None and size != _UNDEFINED:
                at = item_end
                continue
            at = self._elements(start, item_end, target, depth + 1)
        self.explicit = explicit
        return at if length == _UNDEFINED else stop

    def _target(self, tag: int, into: Values | None, depth: int) -> Values | None:
        """Where the tags of an item go: the shared values, a new frame, or its parent's place."""
        if depth == 0 and tag == _SHARED:
            return self.header.shared
        if depth == 0 and tag in (_PER_FRAME, VFRAMES):
            frames = self.header.frames if tag == _PER_FRAME else self.header.vframes
            if len(frames) >= limits.MAX_FRAMES:
                raise TooLarge("A file holds more frames than one file may.")
            frames.append({})
            return frames[-1]
        return into
