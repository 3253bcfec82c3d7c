"""The preview of a stored result as PNG, for the pages: they reach neither the store nor DICOM themselves."""

import hmac
from collections.abc import Callable
from uuid import UUID

from registry.core.db import Database
from registry.core.settings import Settings
from registry.errors import KeyWrong
from serving.results import results_store
from serving.results.errors import PictureUnknown

# One word between the pages and the door; no clinic and no person has it.
WORD = "door-token"


def check(settings: Settings, word: str) -> None:
    """Whether it is our own pages that ask. Raises KeyWrong."""
    mine = settings.secret(WORD)
    if not mine or not hmac.compare_digest(word.encode(), mine.encode()):
        raise KeyWrong


def drawer(settings: Settings, database: Database) -> Callable[[str, UUID, UUID], bytes]:
    """A function of the pages' word, a clinic and a preview object's id: its pixels as PNG, without any header.

    It raises KeyWrong, PictureUnknown.
    """

    def draw(word: str, clinic_id: UUID, object_id: UUID) -> bytes:
        check(settings, word)
        with database.tenant(clinic_id) as conn:
            path = results_store.preview_path(conn, clinic_id, object_id)
        if path is None:
            raise PictureUnknown
        from pydicom import dcmread

        from serving.results.preview import png

        try:
            pixels = dcmread(settings.store_dir / path).pixel_array
        except FileNotFoundError as error:
            raise PictureUnknown("the store has lost this picture") from error
        return png(pixels)

    return draw
