"""multipart/related read in pieces of any size, and refused by name when it is not."""

import random

import pytest

from serving.doors.errors import BadMultipart, TooLarge, UnsupportedMedia
from serving.doors.multipart import BodyLimits, MultipartReader, boundary_of


class Parts:
    def __init__(self):
        self.done, self.headers, self.biggest = [], [], 0
        self._now = None

    def begin(self, headers):
        self.headers.append(dict(headers))
        self._now = bytearray()

    def data(self, piece):
        self.biggest = max(self.biggest, len(piece))
        self._now += piece

    def end(self):
        self.done.append(bytes(self._now))
        self._now = None


def body(parts, boundary=b"B", headers=b"Content-Type: application/dicom\r\n", end=b"\r\n--B--\r\n"):
    return b"".join(b"\r\n--" + boundary + b"\r\n" + headers + b"\r\n" + p for p in parts)[2:] + end


def read(raw, step=1 << 20, limits=None, boundary=b"B"):
    sink = Parts()
    reader = MultipartReader(boundary, sink, limits)
    for at in range(0, len(raw), step):
        reader.feed(raw[at : at + step])
    reader.close()
    return sink


PARTS = [
    b"one",
    b"",
    b"\r\n--not the boundary\r\n",
    b"--B",
    bytes(range(256)) * 50,
    b"\r\n",
    b"\r\n--",
    b"ends with cr\r",
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1 << 20])
def test_parts_come_out_as_they_went_in_whatever_the_pieces(step):
    got = read(body(PARTS), step)
    assert got.done == PARTS
    assert all(h == {"content-type": "application/dicom"} for h in got.headers)


def test_random_bytes_in_random_pieces():
    rng = random.Random(4)
    for _ in range(200):
        parts = [bytes(rng.choices(b"\r\n-Bx", k=rng.randrange(60))) for _ in range(rng.randrange(1, 5))]
        parts = [p for p in parts if b"\r\n--B" not in b"\r\n" + p + b"\r\n"] or [b"x"]
        assert read(body(parts), rng.randrange(1, 9)).done == parts


def test_preamble_epilogue_padding_and_parts_without_headers():
    raw = b"a preamble\r\n--B  \r\n\r\nbare\r\n--B--\r\nan epilogue \r\n--B\r\nis not read"
    assert read(raw).done == [b"bare"]


def test_a_part_is_handed_on_in_pieces_and_never_gathered():
    sink = Parts()
    reader = MultipartReader(b"B", sink)
    raw = body([bytes(4 << 20)])
    for at in range(0, len(raw), 65536):
        reader.feed(raw[at : at + 65536])
        assert len(reader._buffer) < 70_000
    reader.close()
    assert sink.biggest <= 65_536 + 8


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no boundary at all",
        b"--B--\r\n",
        body([b"cut"])[:-4],
        body([b"cut"])[:20],
        b"--B\r\nno colon here\r\n\r\nx\r\n--B--",
        b"--Bx\r\n\r\nx\r\n--B--",
    ],
)
def test_what_is_not_the_form_is_refused(raw):
    with pytest.raises(BadMultipart):
        read(raw)


def test_limits_hold_while_reading():
    with pytest.raises(TooLarge):
        read(body([b"x"] * 4), limits=BodyLimits(parts=3))
    with pytest.raises(TooLarge):
        read(body([b"x" * 1000]), limits=BodyLimits(total=500))
    with pytest.raises(BadMultipart):
        read(body([b"x"], headers=b"A: " + b"a" * 9000 + b"\r\n"))
    with pytest.raises(BadMultipart):
        read(b"--B\r\nA: " + b"a" * 9000, step=100)
    with pytest.raises(BadMultipart):
        read(b"p" * 5000 + b"\r\n" + body([b"x"]))


@pytest.mark.parametrize(
    ("text", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', b"abc"),
        ('Multipart/Related;boundary="a b\'c"', b"a b'c"),
        ('multipart/related; boundary=x-1; type=application/dicom; start="<1>"', b"x-1"),
    ],
)
def test_the_boundary_is_found(text, boundary):
    assert boundary_of(text) == boundary


@pytest.mark.parametrize("text", ["", "application/dicom", "multipart/form-data; boundary=a"])
def test_other_media_are_refused(text):
    with pytest.raises(UnsupportedMedia):
        boundary_of(text)


def test_metadata_parts_are_refused_as_media():
    with pytest.raises(UnsupportedMedia):
        boundary_of('multipart/related; type="application/dicom+json"; boundary=a')


@pytest.mark.parametrize("boundary", ["", "a" * 71, "ends ", "sm;le<", "ünicode"])
def test_a_boundary_outside_the_rule_is_refused(boundary):
    with pytest.raises(BadMultipart):
        boundary_of(f'multipart/related; boundary="{boundary}"')
