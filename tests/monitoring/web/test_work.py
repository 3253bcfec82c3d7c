"""The work list on its page, as its twin and on the command line: one list, of each session what is its own."""

import json
from uuid import UUID

import pytest
from typer.testing import CliRunner

from registry import clinics
from registry.cli import build
from registry.onboarding import decisions
from tests.kit.site import Site
from tests.kit.world import World
from tests.monitoring.web.test_doors import mark_of


def draw(world: World, slug: str, *, why: str, blinded: bool, nth: int) -> UUID:
    """As the follower draws the nth newest study of a clinic's stream; an answer of it is made up."""
    ((clinic, stream, digest, study, seq),) = world.sql(
        "select s.clinic_id, s.id, s.digest, o.study_id, o.seq from monitoring.stream s"
        " join registry.clinic c on c.id = s.clinic_id"
        " join monitoring.observation o on o.clinic_id = s.clinic_id and o.stream_id = s.id"
        " where c.slug = %s order by o.seq desc offset %s limit 1", slug, nth,
    )  # fmt: skip
    job = world.job(clinic, study, f"{study}|draw")
    world.sql(
        "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq,"
        " digest, findings) values (%s, %s, 1, 'ms-lesion', %s, 1, '*', 1, %s, '{}')", clinic, study, job, digest,
    )  # fmt: skip
    world.sql(
        "insert into monitoring.audit(clinic_id, stream_id, study_id, seq, chance, draw, why, blinded, twice)"
        " values (%s, %s, %s, %s, .2, .1, %s, %s, false)", clinic, stream, study, seq, why, blinded,
    )  # fmt: skip
    return UUID(str(study))


@pytest.fixture
def busy(site: Site, world: World) -> Site:
    """Two drawn studies in north and one in south; south is on its way to be onboarded."""
    draw(world, "north", why="drift", blinded=True, nth=0)
    draw(world, "north", why="drift", blinded=True, nth=1)
    draw(world, "south", why="routine", blinded=False, nth=5)
    with site.db.database.system() as conn:
        decisions.begin(conn, clinics.by_slug(conn, "south"), by="quin", reason="contract signed")
    return site


def test_the_qa_team_begins_at_the_work_list(busy: Site, world: World) -> None:
    with busy.client() as client:
        data = {"mark": mark_of(client.get("/sign-in").text), "name": "quin", "key": busy.keys["quin"]}
        assert client.post("/sign-in", data=data | {"next": "/"}).headers["location"] == "/work"
    with busy.client("quin") as client:
        page = client.get("/work")
        assert page.text.index('href="/work"') < page.text.index('href="/flags"'), "first in the navigation"
        twin = client.get("/work.json").json()
        assert twin["heading"] in page.text
        assert [(it["urgency"], it["clinic"], it["do"]) for it in twin["items"]] == [
            ("drift", "north", "Look at flag 1"),
            ("drift", "south", "Look at flag 2"),
            ("evidence", "north", "Read 2 studies of ms-lesion blind"),
            ("onboarding", "south", "Go on with its onboarding: registered"),
            ("routine", "south", "Read 1 study of ms-lesion"),
            ("pointed", "north", "Read the study since flag 1"),
            ("pointed", "south", "Read some of 3 studies since flag 2"),
        ]
        for it in twin["items"]:
            assert it["why"] in page.text.replace("&#39;", "'")
            assert client.get(it["page"]).status_code == 200, it["page"]
            assert it["command"].startswith("radfleet ")
            words = it["command"].split()[1:3]
            assert CliRunner().invoke(build(), [*words, "--help"]).exit_code == 0, it["command"]
        assert "first at north: look at flag 1" in twin["heading"]


def test_the_command_line_says_the_same(busy: Site, world: World) -> None:
    def said(*words: str) -> list[dict[str, str]]:
        done = CliRunner().invoke(build(), ["monitor", "next", "--as", "quin", *words])
        assert done.exit_code == 0, done.output
        found: list[dict[str, str]] = json.loads(done.stdout) if "--json" in words else []
        return found

    with busy.client("quin") as client:
        page = client.get("/work.json").json()["items"]
    assert [(it["do"], it["why"]) for it in said("--json")] == [(it["do"], it["why"]) for it in page]
    assert {it["clinic"] for it in said("--json", "--clinic", "south")} == {"south"}
    assert len(said("--json", "--limit", "1")) == 1
    assert (
        "first: radfleet flag show 1"
        in CliRunner().invoke(build(), ["monitor", "next", "--as", "quin"]).output
    )
    world.sql(
        "update monitoring.flag set muted_until = now() + interval '1 h', muted_by = 'quin', muted_reason = 'x'"
    )
    assert "drift" not in {it["urgency"] for it in said("--json")}
    refused = CliRunner().invoke(build(), ["monitor", "next", "--as", "vera"])
    assert getattr(refused.exception, "code", "") == "registry.role_unfit"


def test_one_clinic_sees_its_own_work_alone(busy: Site) -> None:
    with busy.client("clara") as client:
        page, twin = client.get("/work").text, client.get("/work.json").json()
    assert {it["clinic"] for it in twin["items"]} == {"north"}
    assert {it["command"] for it in twin["items"]} == {""}, "commands are the fleet's"
    assert "south" not in page.lower()


def test_who_has_read_a_study_is_not_asked_again(busy: Site, world: World) -> None:
    world.sql(
        "insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, blinded, reader)"
        " select r.clinic_id, r.study_id, 1, r.task, r.id, r.digest, 'reject', false, 'quin' from serving.result r"
        " join registry.clinic c on c.id = r.clinic_id where c.slug = 'north'"
    )  # fmt: skip
    for name, left in (("quin", False), ("anna", True)):  # not read blind: another reader must
        with busy.client(name) as client:
            urgencies = {it["urgency"] for it in client.get("/work.json").json()["items"]}
        assert ("evidence" in urgencies) is left, name


def test_an_answer_that_was_replaced_is_not_to_be_read(busy: Site, world: World) -> None:
    digest = "sha256:" + "c" * 64
    world.version(digest, version="8.0.0", task="ms-lesion")
    world.sql(
        "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq,"
        " digest, findings) select clinic_id, study_id, 2, task, job_id, 2, '*', 1, %s, '{}'"
        " from serving.result", digest,
    )  # fmt: skip
    with busy.client("quin") as client:
        urgencies = {it["urgency"] for it in client.get("/work.json").json()["items"]}
    assert urgencies.isdisjoint({"evidence", "routine"})
    assert "nothing is due" not in CliRunner().invoke(build(), ["review", "next", "--as", "quin"]).output
    rows = json.loads(CliRunner().invoke(build(), ["review", "next", "--as", "quin", "--json"]).stdout)
    assert {row["evidence"] for row in rows} == {False}


def test_an_empty_list_says_so(site: Site, world: World) -> None:
    world.sql(
        "update monitoring.flag set muted_until = now() + interval '1 h', muted_by = 'quin', muted_reason = 'x'"
    )
    with site.client("quin") as client:
        assert client.get("/work.json").json()["heading"].startswith("Nothing to do")
