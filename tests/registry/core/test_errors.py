"""One error answers four ways: command line, HTTP, DIMSE and across processes."""

import pickle

from registry.core.errors import FAMILIES, Invalid, RadfleetError


class Sample(Invalid):
    """A sample went wrong."""

    code = "core.sample"
    cure = "Mend it."


def test_an_error_renders_for_each_door() -> None:
    error = Sample("the thing is bent", why="It was dropped.")
    assert error.lines().splitlines() == [
        "error: the thing is bent", "  why:  It was dropped.", "  cure: Mend it.", "  code: core.sample",
    ]  # fmt: skip
    assert error.problem()["status"] == 422
    assert error.answer.dimse == 0xC000
    assert len(Sample("x" * 99).comment()) == 64


def test_an_error_survives_a_process_border() -> None:
    again = pickle.loads(pickle.dumps(Sample("bent", "dropped", "mend")))
    assert (type(again), again.what, again.why_text, again.cure_text) == (Sample, "bent", "dropped", "mend")


def test_an_error_without_words_says_its_docstring() -> None:
    assert Sample().what == "A sample went wrong."
    assert RadfleetError().answer == FAMILIES["bug"]
