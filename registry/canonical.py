"""One spelling for one JSON value, so that a digest of it means something: RFC 8785 (JCS).

Digests of package manifests and hash-chained events are taken over these bytes; a checker written in
another language gets the very same bytes from the very same value.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

# RFC 8785 2.2.2 and RFC 7493 2.2: beyond this an IEEE 754 double no longer tells neighbours apart.
MAX_INTEGER = 2**53 - 1


def canonical_json(value: object) -> bytes:
    """RFC 8785 bytes of a JSON value: sorted keys, no blanks, ECMAScript numbers, UTF-8.

    Accepts None, bool, int, float, str, and mappings (string keys) and sequences of those. Raises
    ``ValueError`` for NaN, infinities, integers beyond 2**53-1 and lone surrogates (no interoperable
    form exists), ``TypeError`` for any other type.
    """
    return _text(value).encode("utf-8")


def sha256_digest(data: bytes) -> str:
    """``sha256:`` and 64 lower-case hex digits of ``data``: the one spelling of a digest here."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a JSON key must be a string, not {type(key).__name__}")
        # RFC 8785 3.2.3 sorts by UTF-16 code units, which is not code point order above U+FFFF.
        ordered = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_string(key)}:{_text(item)}" for key, item in ordered) + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return "[" + ",".join(_text(item) for item in value) + "]"
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _string(value: str) -> str:
    # The standard encoder escapes exactly what RFC 8785 3.2.2.2 asks for, except U+007F, which both keep.
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise ValueError("an integer beyond 2**53-1 has no interoperable JSON form: write it as a string")
        return str(value)
    if not math.isfinite(value):
        raise ValueError("NaN and infinities have no JSON form: write null")
    if value == 0:
        return "0"
    # repr gives the shortest digits that round-trip, which are the digits ECMAScript prints too;
    # only the place of the point differs (ECMA-262 Number::toString).
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    return sign + _place(digits, point)


def _place(digits: str, point: int) -> str:
    """Digits and the power of ten of their point, spelt as ECMA-262 does."""
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    power = point - 1
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{digits[0]}{tail}e{'+' if power > 0 else '-'}{abs(power)}"
