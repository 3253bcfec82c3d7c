"""A clinic with a bound version, candidates, people and evidence: what the tests of the promotion line begin with."""

from dataclasses import dataclass
from typing import Any

from registry import accounts, bindings, clinics, versions
from registry.clinics_store import Clinic
from registry.promotions import add_evidence, moves
from registry.promotions.moves_store import Promotion
from registry.versions_store import Version
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK, add_clinic, add_version

WHY = {"by": "bert", "reason": "finds more"}


@dataclass(frozen=True, slots=True)
class Line:
    """Versions by their number: 1 is bound, 2 to 4 are candidates. anna and bert may promote, quin is of qa."""

    db: FreshDb

    def system(self) -> Any:
        return self.db.database.system()

    def version(self, number: int) -> Version:
        with self.system() as conn:
            return versions.by_name(conn, f"{TASK}@{number}.0.0")

    def clinic(self, slug: str = "lakeside") -> Clinic:
        with self.system() as conn:
            return clinics.by_slug(conn, slug)

    def another(self, slug: str) -> Clinic:
        with self.system() as conn:
            its = add_clinic(conn, slug)
            bindings.set(conn, its, TASK, self.version(1).digest, by="anna", reason="first")
        return its

    def evidence(
        self, number: int, *, clinic: Clinic | None = None, gain: float = 0.0, people: int = 10
    ) -> None:
        """Scores of a version: .5 and more, the higher by ``gain``; without a clinic on the global set."""
        scores = {f"p{n}": round(0.5 + 0.02 * n + gain, 6) for n in range(people)}
        digest, dataset = self.version(number).digest, "labelled" if clinic else "reference"
        with self.system() as conn:
            source = f"sha256:{number:032x}{round(1000 * gain) % 1000:032x}"
            add_evidence(conn, digest, clinic, "dice", dataset, scores, source_digest=source, by="bert")

    def measured(self, number: int = 2, *, gain: float = 0.05, clinic: Clinic | None = None) -> None:
        """Evidence for both gates: the candidate gains here, and loses nothing on the global set."""
        its = clinic or self.clinic()
        for version, better in ((1, 0.0), (number, gain)):
            self.evidence(version, clinic=its, gain=better)
            self.evidence(version)

    def request(self, number: int = 2, scope: str = "*", *, clinic: Clinic | None = None) -> Promotion:
        with self.system() as conn:
            digest = self.version(number).digest
            return moves.request(conn, clinic or self.clinic(), TASK, digest, scope, **WHY)

    def approve(self, id: int, **more: Any) -> Promotion:
        with self.system() as conn:
            return moves.approve(conn, id, **{"by": "anna", **more})

    def apply(self, id: int) -> bindings.Change | None:
        with self.system() as conn:
            return moves.apply(conn, id, by="bert")

    def promote(self, number: int = 2) -> Promotion:
        """All three steps."""
        self.measured(number)
        made = self.request(number)
        self.approve(made.id)
        assert self.apply(made.id) is not None
        return self.show(made.id)

    def show(self, id: int) -> Promotion:
        with self.system() as conn:
            return moves.show(conn, id)

    def bind(self, number: int, scope: str = "*") -> None:
        with self.system() as conn:
            bindings.set(
                conn, self.clinic(), TASK, self.version(number).digest, scope, by="anna", reason="by hand"
            )

    def bound(self) -> tuple[str, int]:
        """Version and sequence that answer the clinic."""
        with self.system() as conn:
            row = bindings.show(conn, self.clinic(), TASK)[0]
        return row.model.split("@")[1][0], row.seq


def begin(db: FreshDb) -> Line:
    """The line before its first promotion."""
    with db.database.system() as conn:
        for name, role in (
            ("anna", "admin"),
            ("bert", "ml"),
            ("carl", "ml"),
            ("quin", "qa"),
            ("olga", "oncall"),
        ):
            accounts.add(conn, name, role, by="test")
        for number in (1, 2, 3, 4):
            add_version(conn, f"{number}.0.0")
    line = Line(db)
    line.another("lakeside")
    return line
