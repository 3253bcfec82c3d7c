"""A reading entered in the browser: from the form through the HTTP door to its row, and what stops it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry import secrets
from serving.results import pictures
from tests.kit.answered import AnsweredStudy, answered_study, draw, nifti, version_with_labels
from tests.kit.db import FreshDb
from tests.kit.picture import door
from tests.kit.site import Site, people, serving
from tests.kit.world import DIGEST_A, World


@pytest.fixture
def study(world: World) -> AnsweredStudy:
    version_with_labels(world, DIGEST_A)
    return answered_study(world, world.clinic("north"), DIGEST_A)


@pytest.fixture
def site(fresh_db: FreshDb, study: AnsweredStudy) -> Iterator[Site]:
    with door(fresh_db) as settings, serving(fresh_db, people(fresh_db, clara="north"), settings) as running:
        yield running


@pytest.fixture
def theirs(study: AnsweredStudy, tmp_path: Path) -> bytes:
    """A reader's mask of the study: half of ours."""
    mask = study.mask.copy()
    mask[5:] = 0
    return nifti(tmp_path / "theirs.nii.gz", mask, study.volume.affine).read_bytes()


def enter(
    client: httpx.Client, study: Any, mask: bytes = b"", *, name: str = "theirs.nii.gz", **fields: str
) -> httpx.Response:
    """Fill in the form of the study's page and send it as a browser does, a file field and all."""
    page = client.get(f"/studies/{study}").text
    found = re.search(r'/read/ms-lesion">\s*<input type="hidden" name="mark" value="(\w+)">', page)
    shown = re.search(r'name="shown" value="(\w+)"', page)
    data = {
        "mark": found[1] if found else "", "shown": shown[1] if shown else "no", "decision": "edit",
        "minutes": "", "note": "",
    } | fields  # fmt: skip
    file = {"mask": (name if mask else "", mask, "application/octet-stream")}
    return client.post(f"/studies/{study}/read/ms-lesion", data=data, files=file)


def rows(world: World) -> list[Any]:
    return world.sql(
        "select decision, blinded, reader, minutes, note, round(dice::numeric, 3) from serving.review"
    )


def test_a_corrected_mask_is_sent_by_the_form_and_its_dice_is_shown(
    site: Site, study: AnsweredStudy, theirs: bytes, world: World
) -> None:
    with site.client("quin", follow_redirects=True) as client:
        page = enter(client, study.study, theirs, minutes="4.5", note="the left side is too large")
        assert page.status_code == 200, page.text
        ((decision, blinded, reader, minutes, note, dice),) = rows(world)
        assert (decision, blinded, reader, minutes) == ("edit", False, "quin", 4.5)
        assert note == "the left side is too large"
        assert 0 < dice < 1
        assert f"edit, Dice {dice}" in page.text
        assert "radfleet review withdraw" in page.text
        assert "Enter a reading" not in page.text, "nobody reads a study twice"
        again = client.get(f"/studies/{study.study}.json").json()
        assert [row["reader"] for row in again["readings"]] == ["quin"]
    with site.client("quin") as client:
        twice = enter(client, study.study, theirs, mark=mark(client))
        assert (twice.status_code, "reviews.exists" in twice.text) == (409, True)
    assert len(rows(world)) == 1


def mark(client: httpx.Client) -> str:
    """The mark of any other form of this session."""
    found = re.search(r'name="mark" value="(\w+)"', client.get("/").text)
    assert found
    return found[1]


def test_to_accept_needs_no_mask_and_to_edit_does(site: Site, study: AnsweredStudy, world: World) -> None:
    with site.client("quin") as client:
        refused = enter(client, study.study)
        assert (refused.status_code, "reviews.mask_needed" in refused.text) == (422, True)
        assert enter(client, study.study, decision="accept").status_code == 303
    assert [row[0] for row in rows(world)] == ["accept"]


def test_a_blind_reading_is_one_and_what_was_shown_is_none(
    site: Site, study: AnsweredStudy, theirs: bytes, world: World
) -> None:
    draw(world, study, blinded=True, twice=True)
    with site.client("quin") as client:
        page = client.get(f"/studies/{study.study}").text
        assert 'name="shown" value="no"' in page
        assert "/mask/" not in page
        hidden = client.get(f"/studies/{study.study}/mask/ms-lesion")
        assert (hidden.status_code, "reviews.still_blind" in hidden.text) == (409, True)
        assert enter(client, study.study, theirs).status_code == 303
        page = client.get(f"/studies/{study.study}").text
        assert "shown when every reader has drawn" in page
        (answer,) = client.get(f"/studies/{study.study}.json").json()["readings"]
        assert (answer["decision"], answer["dice"]) == (None, None)
    with site.client("anna") as client:  # a page from before the draw, on which our mask was seen
        assert enter(client, study.study, theirs, shown="yes").status_code == 303
    assert [(row[2], row[1]) for row in rows(world)] == [("quin", True), ("anna", False)]


def test_our_mask_is_given_out_as_a_file_that_comes_back_unchanged(
    site: Site, study: AnsweredStudy, world: World
) -> None:
    with site.client("quin") as client:
        answer = client.get(f"/studies/{study.study}/mask/ms-lesion")
        assert answer.headers["content-disposition"] == 'attachment; filename="mask.nii.gz"'
        assert enter(client, study.study, answer.content).status_code == 303
    ((*_, dice),) = rows(world)
    assert dice == 1


@pytest.mark.parametrize(
    ("who", "fields", "status", "code"),
    [
        ("quin", {"mark": "0" * 64}, 403, "web.form_stale"),
        ("bert", {}, 403, "registry.role_unfit"),
        ("vera", {}, 403, "registry.role_unfit"),
        ("clara", {}, 404, "web.page_unknown"),
        ("quin", {"decision": "praise"}, 422, "reviews.unfit"),
        ("quin", {"minutes": "many"}, 422, "web.form_invalid"),
        ("quin", {"note": "x" * 300}, 422, "reviews.unfit"),
        ("quin", {"note": "x" * 20_000}, 422, "web.form_invalid"),
    ],
)
def test_what_is_no_reading_is_refused_by_name(
    site: Site,
    study: AnsweredStudy,
    theirs: bytes,
    world: World,
    who: str,
    fields: dict[str, str],
    status: int,
    code: str,
) -> None:
    with site.client(who) as client:
        sent = {"mark": mark(client)} | fields
        answer = enter(client, study.study, theirs, **sent)
        assert (answer.status_code, code in answer.text) == (status, True), answer.text
    assert rows(world) == []


def test_a_mask_elsewhere_or_no_mask_at_all_or_too_large_is_refused(
    site: Site, study: AnsweredStudy, tmp_path: Path, world: World
) -> None:
    shifted = study.volume.affine.copy()
    shifted[0, 3] += 7
    elsewhere = nifti(tmp_path / "e.nii.gz", study.mask, shifted).read_bytes()
    with site.client("quin") as client:
        for mask, status, code in (
            (elsewhere, 422, "reviews.mask_elsewhere"),
            (b"no mask", 422, "reviews.mask_unreadable"),
            (bytes((64 << 20) + 20_000), 422, "web.form_invalid"),
        ):
            answer = enter(client, study.study, mask)
            assert (answer.status_code, code in answer.text) == (status, True), code
        no_form = client.post(f"/studies/{study.study}/read/ms-lesion", data={"mark": mark(client)})
        assert (no_form.status_code, "web.form_invalid" in no_form.text) == (422, True)
        damaged = client.post(
            f"/studies/{study.study}/read/ms-lesion", content=b"--x\r\nno end",
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )  # fmt: skip
        assert (damaged.status_code, "web.form_invalid" in damaged.text) == (422, True)
    assert rows(world) == []


def test_the_door_takes_readings_of_the_pages_alone_and_of_the_right_clinic(
    site: Site, study: AnsweredStudy, theirs: bytes, world: World, fresh_db: FreshDb
) -> None:
    other = world.clinic("south")
    word = secrets.ensure(fresh_db.settings, pictures.WORD)
    said = '{"decision": "edit", "reader": "quin", "task": "ms-lesion", "blinded": false, "minutes": null, "note": ""}'
    with door(fresh_db) as settings, httpx.Client(base_url=settings.door_url) as client:

        def ask(clinic: object, key: str, header: str = said) -> int:
            headers = {"Authorization": f"Bearer {key}", "Radfleet-Review": header}
            return client.post(
                f"/reviews/{clinic}/{study.study}", content=theirs, headers=headers
            ).status_code

        assert ask(study.clinic, "0" * 64) == 403
        assert ask(study.clinic, site.keys["quin"]) == 403
        assert ask(other, word) == 404
        assert ask(study.clinic, word, "{}") == 422
        assert rows(world) == []
        assert ask(study.clinic, word) == 200
        mask = f"/masks/{other}/{study.study}/ms-lesion"
        assert client.get(mask, headers={"Authorization": f"Bearer {word}"}).status_code == 404
        assert client.get(mask, headers={"Authorization": "Bearer x"}).status_code == 403


def test_with_the_door_away_the_reading_is_refused_and_can_be_sent_again(
    study: AnsweredStudy, theirs: bytes, world: World, fresh_db: FreshDb
) -> None:
    with serving(fresh_db, people(fresh_db)) as site, site.client("quin") as client:
        answer = enter(client, study.study, theirs)
        assert (answer.status_code, "web.door_away" in answer.text) == (503, True)
    assert rows(world) == []
