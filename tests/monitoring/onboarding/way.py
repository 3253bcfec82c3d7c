"""A clinic on its way: rows as serving writes them, for the tests of onboarding."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from monitoring.onboarding import conformance, standing
from monitoring.onboarding.standing import Standing
from registry import accounts, clinics, events
from registry.onboarding import decisions
from tests.kit.world import DIGEST_A, World
from tests.monitoring.fleet import drain

TASK = "ms-lesion"
FLAIR_3D = {
    "vendor": "siemens", "model": "Prisma", "software": "XA30", "software_major": "XA30", "field_t": 3.0,
    "thickness_mm": 1.0, "coil": "head", "protocol": "p", "sequence_class": "FLAIR", "acquisition": "3D",
    "te_ms": 390.0, "tr_ms": 5000.0, "ti_ms": 1800.0, "flip_deg": 120.0, "spacing_mm": [1.0, 1.0, 1.0],
    "matrix": [176, 256, 256], "contrast_agent": False,
}  # fmt: skip
THICK = FLAIR_3D | {
    "acquisition": "2D",
    "spacing_mm": [0.9, 0.9, 6.0],
    "thickness_mm": 6.0,
    "matrix": [256, 256, 25],
}
CARD = {"scored_on": {"rows": [{"person": "a", "dice": 0.80}, {"person": "b", "dice": 0.80}]}}


@dataclass
class Way:
    """One clinic with a bound version; quin and quaid are of qa, bert is ml, anna admin."""

    world: World
    id: UUID
    count: int = 0

    @property
    def db(self) -> Any:
        return self.world.db.database

    def clinic(self) -> Any:
        with self.db.system() as conn:
            return clinics.by_slug(conn, "north")

    def decide(self, verb: Any, *args: Any, by: str = "quin", reason: str = "as agreed", **more: Any) -> Any:
        with self.db.system() as conn:
            return verb(conn, self.clinic(), *args, by=by, reason=reason, **more)

    def standing(self) -> Standing:
        drain(self.world)
        conformance.turn(self.db, self.id)
        return standing.of(self.db, self.clinic())

    def step(self, name: str) -> Any:
        return next(step for step in self.standing().steps if step.name == name)

    def answered(self, count: int, profile: dict[str, Any] = FLAIR_3D, state: str = "done") -> list[UUID]:
        """Answered studies with their feature rows."""
        first = self.count + 1
        self.count += count
        made = self.world.sql(
            'insert into serving.study(clinic_id, "StudyInstanceUID", state) select %s, \'1.2.\' || n, %s'
            " from generate_series(%s::int, %s::int) n returning id", self.id, state, first, self.count,
        )  # fmt: skip
        its = [row[0] for row in made]
        self.world.sql(
            "insert into registry.job(clinic_id, kind, dedup_key, study_id, revision, payload)"
            " select %s, 'infer', id::text, id, 1, jsonb_build_object('task', %s::text) from unnest(%s::uuid[]) id",
            self.id, TASK, its,
        )  # fmt: skip
        self.world.sql(
            "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq,"
            " digest, findings) select clinic_id, study_id, 1, %s, id, 1, '*', 1, %s, '{}' from registry.job"
            " where study_id = any(%s)", TASK, DIGEST_A, its,
        )  # fmt: skip
        self.world.sql(
            "insert into serving.feature(clinic_id, study_id, revision, task, digest, profile, values)"
            " select %s, id, 1, %s, %s, %s, jsonb_build_object('snr_wm', 10 + n * 37 %% 101 * 0.03,"
            " 'cjv', 0.3 + n * 53 %% 97 * 0.001)"
            " from unnest(%s::uuid[]) with ordinality as u(id, n)", self.id, TASK, DIGEST_A, Jsonb(profile), its,
        )  # fmt: skip
        return its

    def reviewed(self, studies: list[UUID], dice: float, *, blinded: bool = True) -> None:
        """One reader's corrected mask of each study, six minutes each."""
        self.world.sql(
            "insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, blinded,"
            " reader, minutes, dice, delivered_ml, corrected_ml, mask_kind, mask_path, mask_size, mask_sha256)"
            " select clinic_id, study_id, revision, task, id, digest, 'edit', %s, 'dr-a', 6, %s, 1, 1, 'seg',"
            " 'm/' || study_id, 1, sha256('x') from serving.result where study_id = any(%s) order by study_id",
            blinded, dice, studies,
        )  # fmt: skip

    def connected(self) -> None:
        """An image that its scanner sent, and a destination that answered."""
        study = self.world.study(self.id, uid="1.2.9999", state="done")
        ((series,),) = self.world.sql(
            'insert into serving.series(clinic_id, study_id, "SeriesInstanceUID") values (%s, %s, \'1\') returning id',
            self.id, study,
        )  # fmt: skip
        self.world.sql(
            'insert into serving.instance(clinic_id, study_id, series_id, "SOPInstanceUID", "SOPClassUID", path, size,'
            " sha256, source, revision) values (%s, %s, %s, '1', '2', 'p', 1, sha256('x'), 'c-store', 1)",
            self.id, study, series,
        )  # fmt: skip
        self.world.sql(
            "insert into serving.destination(clinic_id, name, kind, host, port, ae_title)"
            " values (%s, 'pacs', 'cstore', '127.0.0.1', 1, 'PACS')", self.id,
        )  # fmt: skip
        self.called()

    def called(self, code: str | None = None) -> None:
        self.world.sql(
            "insert into serving.echo(clinic_id, destination_id, address, ok, code, milliseconds)"
            " select clinic_id, id, host || ':' || port || ' ' || ae_title, %s::text is null, %s, 3"
            " from serving.destination where clinic_id = %s", code, code, self.id,
        )  # fmt: skip

    def ready(self, dice: float = 0.9, reviews: int = 40) -> None:
        """Everything before the acceptance."""
        self.decide(decisions.begin)
        self.connected()
        studies = self.answered(50)
        self.reviewed(studies[:reviews], dice)

    def proof(self) -> tuple[str, dict[str, Any]]:
        return standing.proof(self.standing(), TASK)

    def accept(self, by: str) -> Any:
        return self.decide(decisions.accept, TASK, *self.proof(), by=by)

    def chain(self) -> list[str]:
        with self.db.system() as conn:
            assert all(state.whole for state in events.verify(conn))
            return [e.type for e in reversed(events.list(conn, events.of_clinic(self.id)))]


def begin(world: World) -> Way:
    """A clinic with a bound version and nothing else."""
    clinic = world.clinic("north")
    world.version(task=TASK)
    world.sql("alter table registry.model_version disable trigger user")
    world.sql("update registry.model_version set card = %s", Jsonb(CARD))
    world.sql("alter table registry.model_version enable trigger user")
    world.bind(clinic, task=TASK)
    with world.db.database.system() as conn:
        for name, role in (("anna", "admin"), ("bert", "ml"), ("quin", "qa"), ("quaid", "qa")):
            accounts.add(conn, name, role, by="test")
    return Way(world, clinic)
