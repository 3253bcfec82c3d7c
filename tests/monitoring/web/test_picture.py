"""The overlay's way from the store through the HTTP door to the page, and what stops it."""

import io
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from registry import secrets
from registry.core.errors import RadfleetError
from serving.results import pictures
from serving.results.errors import PictureUnknown
from tests.kit.answered import AnsweredStudy, answered_study
from tests.kit.db import FreshDb
from tests.kit.picture import add_preview, door
from tests.kit.site import Site, people, serving
from tests.kit.world import World

FOUND = {
    "findings": [
        {"name": "White matter lesion", "volume_ml": 1.26, "count": 3, "rule": "lesions/1", "reason": None}
    ]
}


@pytest.fixture
def study(world: World) -> AnsweredStudy:
    return answered_study(world, world.clinic("north"), world.version(task="ms-lesion"))


@pytest.fixture
def site(fresh_db: FreshDb, study: AnsweredStudy) -> Iterator[Site]:
    with door(fresh_db) as settings, serving(fresh_db, people(fresh_db), settings) as running:
        yield running


def test_the_page_shows_the_very_pixels_of_the_preview(
    site: Site, study: AnsweredStudy, world: World
) -> None:
    _, pixels = add_preview(world, study, FOUND)
    with site.client("vera") as client:
        page = client.get(f"/studies/{study.study}").text
        address = f"/studies/{study.study}/picture/ms-lesion"
        assert f'src="{address}"' in page
        answer = client.get(address)
        assert answer.headers["content-type"] == "image/png"
        image = Image.open(io.BytesIO(answer.content))
        assert image.info == {}, "no header of the source travels with it"
        assert np.array_equal(np.asarray(image), pixels)


def test_the_door_draws_for_the_pages_alone_and_for_the_right_clinic(
    site: Site, study: AnsweredStudy, world: World, fresh_db: FreshDb
) -> None:
    id, _ = add_preview(world, study, FOUND)
    other = world.clinic("south")
    word = secrets.ensure(fresh_db.settings, pictures.WORD)
    with door(fresh_db) as settings, httpx.Client(base_url=settings.door_url) as client:

        def ask(clinic: object, object_id: object, key: str = word) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return client.get(f"/pictures/{clinic}/{object_id}", headers=headers).status_code

        assert ask(study.clinic, id) == 200
        assert ask(study.clinic, id, "0" * 64) == 403
        assert ask(study.clinic, id, site.keys["anna"]) == 403
        assert client.get(f"/pictures/{study.clinic}/{id}").status_code == 401
        assert ask(other, id) == 404
        assert ask(study.clinic, other) == 404
        assert ask("../../etc", "passwd") == 404
        assert ask("x", "y") == 422


def test_without_the_secret_the_door_draws_for_nobody(study: AnsweredStudy, fresh_db: FreshDb) -> None:
    with pytest.raises(RadfleetError) as error:
        pictures.drawer(fresh_db.settings, fresh_db.database)("", study.clinic, study.study)
    assert error.value.code == "registry.key_wrong"


def test_a_picture_that_the_store_lost_is_named(
    site: Site, study: AnsweredStudy, world: World, fresh_db: FreshDb
) -> None:
    id, _ = add_preview(world, study, FOUND)
    for file in (fresh_db.settings.store_dir / f"clinic/{study.clinic}/bb").iterdir():
        file.unlink()
    draw = pictures.drawer(fresh_db.settings, fresh_db.database)
    with pytest.raises(PictureUnknown):
        draw(secrets.ensure(fresh_db.settings, pictures.WORD), study.clinic, id)
    with site.client("vera") as client:
        answer = client.get(f"/studies/{study.study}/picture/ms-lesion")
        assert (answer.status_code, PictureUnknown.code in answer.text) == (404, True)
