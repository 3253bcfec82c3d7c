"""The clinic's page shows how often its reports say the same, with n and how they were read; else no card."""

from psycopg.types.json import Jsonb

from tests.kit.site import Site
from tests.kit.world import World
from tests.monitoring.qa.test_concordance import document, state

CARD = "Concordance with the clinic"
RESULT = """
insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq, digest,
  findings) values (%s, %s, 1, 'ms-lesion', %s, 1, '*', 1, %s, %s)"""


def test_a_page_shows_concordance_and_its_twin(site: Site, world: World) -> None:
    ((north,),) = world.sql("select id from registry.clinic where slug = 'north'")
    ((digest,),) = world.sql("select distinct digest from serving.feature where clinic_id = %s", north)
    studies = world.sql("select id from serving.study where clinic_id = %s order by id limit 5", north)
    said = (("present", 1), ("absent", 1), ("absent", 0), ("absent", 0), ("present", 2))
    with site.client("anna") as client:
        assert CARD not in client.get("/clinics/north").text
        for (study,), (says, lesions) in zip(studies, said, strict=True):
            job = world.job(north, study, f"concordance {study}")
            world.sql(RESULT, north, study, job, digest, Jsonb(document(lesions)))
            assert CARD not in client.get("/clinics/north").text, "fewer than five would tell a blind reader"
            state(world, north, study, says)
        for name in ("anna", "clara"):
            with site.client(name) as its:
                page = its.get("/clinics/north").text
                assert CARD in page
                assert "read from text by rules, not validated on real reports; no verdict takes it" in page
                assert "4 of n 5 clear reports say the same as our answer (too few for a share)" in page
                (twin,) = its.get("/clinics/north.json").json()["concordance"]
                assert (twin["n"], twin["both"], twin["neither"], twin["only_ours"]) == (5, 2, 2, 1)
                assert twin["agree"] is None
        assert CARD not in client.get("/clinics/south").text
        assert client.get("/clinics/south.json").json()["concordance"] == []
    with site.client("clara") as client:
        assert client.get("/clinics/south").status_code == 404
