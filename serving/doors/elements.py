"""Walks the elements of an encoded data set from its first byte to its last, bounded, without decoding any pixel.

Why not pydicom here: the door must tell a truncated object from a whole one before it answers 0000, must
survive nesting and element bombs, and must never raise an exception that carries a value.
"""

import struct
from collections.abc import Container
from dataclasses import dataclass

from serving.doors.errors import Malformed, Truncated

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEPTH_MAX = 32
ELEMENTS_MAX = 2_000_000  # an enhanced object of 4096 frames has about 10^6 elements
VALUE_BYTES_MAX = 1_024

_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT = frozenset(
    (
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT"),
        *(b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    )
)
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = frozenset((0x7FE00010, 0x7FE00008, 0x7FE00009))


@dataclass(slots=True)
class _Walk:
    """The buffer, its encoding and how many elements were met."""

    data: memoryview
    explicit: bool
    order: str
    count: int = 0


def looks_explicit(data: memoryview, start: int) -> bool:
    """Whether the first element has a VR where explicit encoding puts it."""
    return bytes(data[start + 4 : start + 6]) in _LONG | _SHORT


def walk(
    data: memoryview, start: int, transfer_syntax: str, wanted: Container[int], last: int = _UNDEFINED
) -> tuple[dict[int, bytes], int]:
    """Read the top-level elements ``wanted`` (tags as 32-bit integers) from ``data[start:]``.

    Returns their values, each cut at 1024 bytes, and the offset where the walk ended: the end of the data,
    or the first element whose tag is greater than ``last``.
    Raises Truncated when an element reaches past the end and Malformed when the structure cannot be followed.
    """
    explicit = transfer_syntax != IMPLICIT_LE
    if transfer_syntax != EXPLICIT_BE and len(data) - start >= 8:
        # Some senders state one of the two little-endian syntaxes and write the other; the bytes decide.
        explicit = looks_explicit(data, start)
    state = _Walk(data, explicit, ">" if transfer_syntax == EXPLICIT_BE else "<")
    found: dict[int, bytes] = {}
    at, end = start, len(data)
    while at < end:
        tag, length, value_at, _ = _element(state, at, end)
        if tag > last:
            break
        if length == _UNDEFINED:
            at = _skip_undefined(state, value_at, end, tag)
            continue
        at = value_at + length
        if at > end:
            raise Truncated
        if tag in wanted:
            found[tag] = bytes(data[value_at : value_at + min(length, VALUE_BYTES_MAX)])
    return found, at


def _element(state: _Walk, at: int, end: int) -> tuple[int, int, int, bytes]:
    """One element header: tag, value length, offset of the value, VR (empty where implicit)."""
    state.count += 1
    if state.count > ELEMENTS_MAX:
        raise Malformed
    if at + 8 > end:
        raise Truncated
    data = state.data
    group, element = struct.unpack_from(state.order + "HH", data, at)
    tag = group << 16 | element
    if group == 0xFFFE or not state.explicit:
        return tag, struct.unpack_from(state.order + "L", data, at + 4)[0], at + 8, b""
    vr = bytes(data[at + 4 : at + 6])
    if vr in _SHORT:
        return tag, struct.unpack_from(state.order + "H", data, at + 6)[0], at + 8, vr
    if vr not in _LONG:
        raise Malformed
    if at + 12 > end:
        raise Truncated
    return tag, struct.unpack_from(state.order + "L", data, at + 8)[0], at + 12, vr


def _skip_undefined(state: _Walk, at: int, end: int, tag: int) -> int:
    """Offset behind the sequence delimiter of an element of undefined length: fragments or a sequence."""
    if tag in _PIXELS:
        return _skip_fragments(state, at, end)
    return _skip_sequences(state, at, end)


def _skip_fragments(state: _Walk, at: int, end: int) -> int:
    while True:
        tag, length, value_at, _ = _element(state, at, end)
        if tag == _SEQUENCE_END:
            return value_at
        if tag != _ITEM or length == _UNDEFINED:
            raise Malformed
        at = value_at + length
        if at > end:
            raise Truncated


def _skip_sequences(state: _Walk, at: int, end: int) -> int:
    """Follow nested sequences and items of undefined length with a stack of our own, not the interpreter's."""
    inside_item = [False]  # one entry a level: False between the items of a sequence, True inside an item
    while inside_item:
        if len(inside_item) > 2 * DEPTH_MAX:
            raise Malformed
        tag, length, value_at, _ = _element(state, at, end)
        at = value_at
        if inside_item[-1]:
            if tag == _ITEM_END:
                inside_item.pop()
            elif length == _UNDEFINED and tag not in _PIXELS:
                inside_item.append(False)
            elif length == _UNDEFINED:
                at = _skip_fragments(state, at, end)
            else:
                at += length
        elif tag == _SEQUENCE_END:
            inside_item.pop()
        elif tag == _ITEM and length == _UNDEFINED:
            inside_item.append(True)
        elif tag == _ITEM:
            at += length
        else:
            raise Malformed
        if at > end:
            raise Truncated
    return at
