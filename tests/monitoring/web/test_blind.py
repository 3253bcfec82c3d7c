"""A study that is to be read blind: no page, twin, picture or command shows its mask or volume before it was read."""

import json
from pathlib import Path

import httpx
import pytest
from psycopg.types.json import Jsonb
from typer.testing import CliRunner

from registry import secrets
from registry.cli import build
from serving.results import pictures
from tests.kit.answered import AnsweredStudy, answered_study, nifti, version_with_labels
from tests.kit.db import FreshDb
from tests.kit.picture import add_preview, door
from tests.kit.site import people, serving, stream
from tests.kit.world import DIGEST_A, World

# So long that no id, digest or made-up number of a page holds them by chance, as "4177" or "7.35" once did.
VOLUME, COUNT, SHOWN = 0.000735194, 417741774, "0.000735"
DOCUMENT = {
    "task": "ms-lesion", "model": {"name": "ms-lesion", "version": "1.0.0", "digest": DIGEST_A},
    "findings": [{"name": "White matter lesion", "volume_ml": VOLUME, "count": COUNT, "rule": "l/1", "reason": None}],
    "numbers": {"lesion_ml": {"value": VOLUME}, "lesion_count": {"value": COUNT}}, "warnings": [f"{COUNT} of them."],
}  # fmt: skip


@pytest.fixture
def study(world: World) -> AnsweredStudy:
    """A study with a preview, in a stream with an open flag on its lesion volume, drawn to be read blind."""
    version_with_labels(world, DIGEST_A)
    clinic = world.clinic()
    its = answered_study(world, clinic, DIGEST_A)
    world.sql("update serving.result set findings = %s", Jsonb(DOCUMENT))
    add_preview(world, its, DOCUMENT)
    id_, _ = stream(world, clinic, DIGEST_A, studies=12, shifted=3, verdict="watch", flag=True)
    world.sql("update monitoring.flag set features = %s",
              Jsonb([{"name": "lesion_ml", "direction": "up", "certain": True}]))  # fmt: skip
    ((seq,),) = world.sql(
        "insert into serving.feature(clinic_id, study_id, revision, task, digest, profile, values)"
        " values (%s, %s, 2, 'ms-lesion', %s, '{}', %s) returning seq",
        clinic, its.study, DIGEST_A, Jsonb({"lesion_ml": VOLUME}),
    )  # fmt: skip
    world.sql(
        "insert into monitoring.observation"
        " values (%s, %s, %s, %s, now(), 1, 'philips ingenia', 'ranked', 9, 'x')", clinic, id_, seq, its.study,
    )  # fmt: skip
    world.sql(
        "insert into monitoring.audit(clinic_id, stream_id, study_id, seq, chance, draw, why, blinded, twice)"
        " values (%s, %s, %s, %s, .2, .1, 'drift', true, false)", clinic, id_, its.study, seq,
    )  # fmt: skip
    return its


def leaks(world: World, fresh_db: FreshDb, study: AnsweredStudy) -> list[str]:
    """Every way on which something of the answer comes out, asked by the fleet's people and by the clinic's own."""
    found = []
    marks = (SHOWN, str(COUNT), "Axial, coronal")
    ((preview,),) = world.sql("select id from serving.result_object where kind = 'preview'")
    keys = people(fresh_db, clara="north")
    with door(fresh_db) as settings, serving(fresh_db, keys, settings) as site:
        for name in ("quin", "clara"):
            with site.client(name) as client:
                for path in (
                    f"/studies/{study.study}",
                    "/flags/1",
                    "/clinics/north",
                    "/studies",
                    "/work",
                    "/",
                ):
                    for kind in ("text/html", "application/json"):
                        answer = client.get(path, headers={"Accept": kind})
                        assert answer.status_code == 200, (name, path)
                        found += [f"{name} {path} {kind}: {mark}" for mark in marks if mark in answer.text]
                if client.get(f"/studies/{study.study}/picture/ms-lesion").status_code == 200:
                    found.append(f"{name} picture")
        word = {"Authorization": f"Bearer {secrets.ensure(fresh_db.settings, pictures.WORD)}"}
        address = f"{settings.door_url}/pictures/{study.clinic}/{preview}"
        if httpx.get(address, headers=word).status_code == 200:
            found.append("door")
    for words in (["study", "show", str(study.study)], ["study", "show", str(study.study), "--json"],
                  ["review", "next", "--as", "quin", "--json"], ["monitor", "next", "--as", "quin", "--json"],
                  ["study", "trace", str(study.study)]):  # fmt: skip
        done = CliRunner().invoke(build(), words)
        assert done.exit_code == 0, (words, done.output)
        found += [f"{words}: {mark}" for mark in marks if mark in done.output]
    return found


def test_nothing_of_a_blind_study_is_shown_before_it_was_read(
    world: World, fresh_db: FreshDb, study: AnsweredStudy, tmp_path: Path
) -> None:
    assert leaks(world, fresh_db, study) == []
    with serving(fresh_db, people(fresh_db)) as site, site.client("quin") as client:
        page = client.get(f"/studies/{study.study}").text
        assert "to be read blind" in page
        assert f"radfleet review add {study.study} --task ms-lesion --decision edit --blinded" in page
        answer = client.get(f"/studies/{study.study}.json").json()["answers"][0]
        assert (answer["blind"], answer["findings"], answer["picture"]) == (True, None, None)
    mask = nifti(tmp_path / "m.nii.gz", study.mask, study.volume.affine)
    words = [
        "review",
        "add",
        str(study.study),
        "--decision",
        "edit",
        "--blinded",
        "--mask",
        str(mask),
        "--as",
        "quin",
    ]
    assert CliRunner().invoke(build(), words).exit_code == 0
    told = leaks(world, fresh_db, study)
    page = f"/studies/{study.study}"
    shown = {
        "quin picture", "clara picture", "door", f"quin /flags/1 text/html: {SHOWN}", f"quin {page} text/html: {COUNT}",
        f"clara {page} application/json: {SHOWN}",
    }  # fmt: skip
    assert shown <= set(told), "and afterwards all of it is, so the probes see what they look for"


def test_a_document_says_that_it_is_kept_back(world: World, study: AnsweredStudy) -> None:
    done = CliRunner().invoke(build(), ["study", "show", str(study.study), "--json"])
    (document,) = json.loads(done.stdout)["findings"]
    assert (document["findings"], document["numbers"]) == ([], {})
    assert "read blind" in document["warnings"][0]
    assert "read blind" in CliRunner().invoke(build(), ["study", "show", str(study.study)]).output
