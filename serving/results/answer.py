"""Who answered: the one record from which every result object takes its identity and its model's name."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from serving.results import uids

PRODUCT = "Radfleet"
QUALIFICATION = "RESEARCH"
WARNING = "AI - RESEARCH - NOT FOR PRIMARY DIAGNOSIS"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of one model version to one revision of one study.

    ``created_at`` is the moment stored with the result row, in the wall clock that the clinic reads: taken
    from the row and not from the running clock, so that objects made again are the same bytes.
    ``digest`` is the one that the loader computed, as ``sha256:<64 hex>``.
    """

    clinic_id: UUID
    study_id: UUID
    revision: int
    task: str
    model: str
    version: str
    digest: str
    runtime: str
    device: str
    binding_seq: int | None
    created_at: datetime
    product_version: str

    def uid(self, kind: str) -> str:
        """The derived UID of one object of this answer, for example ``seg`` or ``seg.series``."""
        return uids.derive(
            clinic_id=self.clinic_id,
            study_id=self.study_id,
            revision=self.revision,
            task=self.task,
            digest=self.digest,
            kind=kind,
        )

    @property
    def algorithm(self) -> str:
        """Name and version as a reader sees them, for example ``ms-lesion 1.0.0``."""
        return f"{self.model} {self.version}"
