"""Result UIDs derived from what the result is, so that a result made or sent again is the same object.

DICOM PS3.5 B.2 allows ``2.25.`` followed by a UUID written as a decimal integer: at most 44 characters.
"""

from uuid import UUID, uuid5

# The root of all names below; it must never change, or old results would be sent again as new objects.
NAMESPACE = UUID("6f0c3f6e-9d0b-5f0a-8f5e-7b1c1d2a4e90")

# PS3.7 D.3.3.2: who wrote the file; one fixed value for this product.
IMPLEMENTATION_UID = f"2.25.{uuid5(NAMESPACE, 'implementation').int}"


def derive(*, clinic_id: UUID, study_id: UUID, revision: int, task: str, digest: str, kind: str) -> str:
    """The UID of one object of one answer.

    The clinic is part of the name: the same study at two clinics gives different objects. The digest is
    too: another version's answer never overwrites the first in an archive that keys by UID.
    """
    # A separator that occurs in no part keeps ("a", "bc") and ("ab", "c") apart.
    name = "\x1f".join([str(clinic_id), str(study_id), str(revision), task, digest, kind])
    return f"2.25.{uuid5(NAMESPACE, name).int}"


def device(digest: str) -> str:
    """The UID of a model version as an observing device (TID 1004): equal at every clinic."""
    return f"2.25.{uuid5(NAMESPACE, 'device' + chr(0x1F) + digest).int}"
