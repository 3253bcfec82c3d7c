"""How much one study may ask for: counts checked before decoding, and the limits of the child process.

Measured: a head of 256 x 256 x 160 needs 260 MB of address space, 512 x 512 x 400 needs 850 MB (about six
bytes a voxel), while a JPEG 2000 header of 2 KB that claims 20000 x 20000 asks for 850 MB before it fails,
and a deflated file of 1.5 MB for 1.5 GB. So sizes are compared before any decoder sees a byte.
"""

from dataclasses import dataclass

MAX_ROWS = 4096
MAX_COLUMNS = 4096
MAX_FRAMES = 4096
MAX_VOXELS = 1 << 28
MAX_FILE_BYTES = (1 << 31) - 1
MAX_FILES = 20_000
MAX_DEPTH = 24
MAX_ELEMENTS = 2_000_000

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})
JPEG = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
JPEG_LS = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91))
RLE = frozenset({"1.2.840.10008.1.2.5"})
ACCEPTED = NATIVE | JPEG | JPEG_LS | JPEG_2000 | RLE


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Limits of one child process: one study, one child, one failure."""

    memory_bytes: int = (2 << 30) + (512 << 20)
    cpu_seconds: int = 60
    wall_seconds: float = 90.0
    file_bytes: int = (1 << 30) + (64 << 20)
    open_files: int = 64


DEFAULT_LIMITS = ChildLimits()
