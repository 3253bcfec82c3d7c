"""Every refusal has a code, a why and a cure, and survives the way from child to parent."""

import pickle

import pytest

from registry.core.errors import RadfleetError
from serving.imaging import errors

KINDS = [errors.ImagingError, *errors.ImagingError.__subclasses__(), errors.NoSpace]


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_is_complete(kind: type[RadfleetError]) -> None:
    assert kind.code.startswith("imaging.")
    error = kind("what", "why", "cure")
    assert kind().cure_text and str(kind())
    back = errors.from_record(errors.as_record(error))
    assert type(back) is kind
    assert (back.what, back.why_text, back.cure_text) == ("what", "why", "cure")
    assert type(pickle.loads(pickle.dumps(error))) is kind


def test_codes_are_unique_and_unknown_ones_are_malformed() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)
    assert isinstance(errors.from_record({"code": "imaging.never_heard_of"}), errors.Malformed)
