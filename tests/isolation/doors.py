"""Probes through the real doors: what one clinic learns of another from the answers to its own requests."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import httpx
import uvicorn
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import MRImageStorage

from registry import clinics
from registry.clinics import Clinic
from serving.doors import http
from serving.doors.filestore import Filestore
from serving.doors.intake import Intake
from serving.doors.record import DatabaseRecorder, hint_release
from serving.doors.scp import DicomDoor, FindSender
from serving.requestor import HANDLERS
from tests.isolation.probes import Tally
from tests.kit.dicom import heard, mr_instance, part10, uid
from tests.kit.world import World

CALLED = "RADFLEET"
ELSEWHERE = "FAR_AWAY"  # a sender of the first clinic, known from another network only
_CONTENT = 'multipart/related; type="application/dicom"; boundary=BB'
_STRANGER = "rf_00000000_" + "0" * 43


@dataclass(frozen=True, slots=True)
class Side:
    """One clinic as the doors know it. ``word`` stands in its patient data and nowhere else."""

    clinic: Clinic
    word: str
    ae: str
    key: str
    expired: str
    revoked: str


@dataclass(frozen=True, slots=True)
class Doors:
    """Both doors on loopback over one store and one database."""

    world: World
    dicom_port: int
    http_port: int


def side(world: World, slug: str, word: str) -> Side:
    """A clinic that exists already gets its keys: a good one, an expired one and a revoked one."""
    with world.db.database.system() as conn:
        clinic = clinics.by_slug(conn, slug)
        expired = clinics.add_key(conn, clinic, by="isolation")
    world.sql(
        "update registry.clinic_key set expires_at = now() - interval '1 day' where key_id = %s", _id(expired)
    )
    with world.db.database.system() as conn:
        revoked = clinics.add_key(conn, clinic, by="isolation")
        clinics.revoke_key(conn, clinic, _id(revoked), by="isolation")
        key = clinics.add_key(conn, clinic, by="isolation")
    return Side(clinic, word, slug.upper(), key, expired, revoked)


def _id(key: str) -> str:
    return key.split("_")[1]


@contextmanager
def opened(world: World, find: FindSender | None = None) -> Iterator[Doors]:
    """The real doors of this world; ``find`` replaces the look-up of a DICOM sender (for a planted fault)."""
    database, store = world.db.database, Filestore(world.db.settings.store_dir, free_bytes_min=0)

    def by_ae(called: str, calling: str, address: str) -> Clinic:
        with database.system() as conn:
            return clinics.by_ae(conn, called, calling, address)

    def by_key(token: str) -> Clinic:
        with database.system() as conn:
            return clinics.by_key(conn, token, clinics.Scope.SUBMIT)

    intake = Intake(store, DatabaseRecorder(database, world.db.settings))
    door = DicomDoor(intake, find or by_ae, hint_release(database))
    app = http.application(intake, by_key, store.check_space, hint_release(database))
    options = {"log_config": None, "access_log": False, "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", 0, **options))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        port = door.start("127.0.0.1", 0)
        while not server.started:
            time.sleep(0.01)
        yield Doors(world, port, server.servers[0].sockets[0].getsockname()[1])
    finally:
        door.stop(grace_s=1)
        server.should_exit = True
        thread.join(10)


def dicom_door(doors: Doors, sides: tuple[Side, Side], rounds: int, tally: Tally) -> None:
    """C-STORE what the other clinic has: it must be new, with no word of a conflict or a duplicate."""
    for victim, intruder in (sides, sides[::-1]):
        theirs, ours = _associate(doors, victim.ae), _associate(doors, intruder.ae)
        for number in range(rounds):
            ds = _object(victim, number)
            if _store(theirs, ds) != 0:
                raise SystemExit("the victim's own C-STORE was refused: the probes would prove nothing")
            tally.note("C-STORE of the same bytes", _store(ours, ds) != 0)
            tally.note("what became of the same bytes", not _new(doors, intruder, ds, victim))
            changed = _object(victim, number, other_than=ds)
            ours_again = _object(intruder, number, other_than=ds)
            tally.note("C-STORE of other bytes under that UID", _store(ours, ours_again) != 0)
            tally.note("the victim's bytes are its own", _store(theirs, changed) != 0)
            tally.note("two versions each, none mixed", _versions(doors, ds) != {2})
        theirs.release()
        ours.release()


def strangers(doors: Doors, sides: tuple[Side, Side], rounds: int, tally: Tally) -> None:
    """Unknown pairs of AE titles get one and the same rejection, whatever exists of the pair."""
    north, south = sides
    pairs = [
        ("NOBODY", CALLED),
        (north.ae, "NOT_RADFLEET"),
        (south.ae, north.ae),
        (ELSEWHERE, CALLED),
        (north.ae.lower(), CALLED),
    ]
    answers = set()
    for _ in range(rounds):
        for calling, called in pairs:
            assoc = heard(partial(AE_of(calling).associate, "127.0.0.1", doors.dicom_port, ae_title=called))
            reason = assoc.acceptor.primitive
            answers.add((reason.result, reason.result_source, reason.diagnostic))
            tally.note(f"association of a stranger ({calling})", assoc.is_established or len(answers) > 1)
            assoc.abort()


def http_door(doors: Doors, sides: tuple[Side, Side], rounds: int, tally: Tally) -> None:
    """STOW with our own key what the other clinic has; the answer is the one that an unknown object gets."""
    with httpx.Client(base_url=f"http://127.0.0.1:{doors.http_port}", trust_env=False, timeout=60) as web:
        for victim, intruder in (sides, sides[::-1]):
            for number in range(rounds):
                ds, unknown = _object(victim, number), _object(intruder, number)
                if _post(web, victim.key, ds)[0] != 200:
                    raise SystemExit("the victim's own STOW was refused: the probes would prove nothing")
                foreign, fresh = _post(web, intruder.key, ds), _post(web, intruder.key, unknown)
                tally.note("STOW to a foreign study", foreign != fresh or _leaks(foreign, victim))
                tally.note("what became of it", not _new(doors, intruder, ds, victim))
                looks = [_get(web, intruder.key, u) for u in (str(ds.StudyInstanceUID), uid())]
                tally.note("GET of a foreign study", looks[0] != looks[1] or _leaks(looks[0], victim))
            _keys(web, victim, intruder, rounds, tally)


def _keys(web: httpx.Client, victim: Side, intruder: Side, rounds: int, tally: Tally) -> None:
    """A key that is wrong, expired, revoked or another clinic's opens nothing and tells nothing."""
    rng = random.Random(11)
    for number in range(rounds):
        ds = _object(victim, number)
        stranger = _post(web, _STRANGER, ds)
        tails = "".join(rng.choices("0123456789ABCDEFabcdef", k=43))
        mixed = f"rf_{_id(victim.key)}_{intruder.key.split('_')[2]}"
        for name, key in {
            "foreign key id, guessed secret": f"rf_{_id(victim.key)}_{tails}",
            "foreign key id, own secret": mixed,
            "expired key id, guessed secret": f"rf_{_id(victim.expired)}_{tails}",
            "revoked key id, guessed secret": f"rf_{_id(victim.revoked)}_{tails}",
            "malformed key": f"rf_{tails}",
        }.items():
            answer = _post(web, key, ds)
            tally.note(name, answer != stranger or answer[0] // 100 != 4 or _leaks(answer, victim))
        for name, key in {"expired key": intruder.expired, "revoked key": intruder.revoked}.items():
            answers = [_post(web, key, one) for one in (ds, _object(intruder, number))]
            tally.note(
                name, answers[0] != answers[1] or answers[0][0] // 100 != 4 or _leaks(answers[0], victim)
            )


def AE_of(title: str) -> AE:
    """An application entity that offers MR images; short timeouts, for nothing here may wait."""
    ae = AE(ae_title=title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.add_requested_context(MRImageStorage, "1.2.840.10008.1.2.1")
    return ae


def _associate(doors: Doors, title: str) -> object:
    assoc = AE_of(title).associate("127.0.0.1", doors.dicom_port, ae_title=CALLED, evt_handlers=HANDLERS)
    if not assoc.is_established:
        raise SystemExit("a known sender was rejected: the probes would prove nothing")
    return assoc


def _object(owner: Side, number: int, other_than: Dataset | None = None) -> Dataset:
    """An MR instance with the owner's word in it; ``other_than``: other bytes under that one's UIDs."""
    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
    same = {} if other_than is None else {name: other_than[name].value for name in names}
    words = dict.fromkeys(("PatientName", "PatientID", "AccessionNumber", "StationName"), owner.word[-16:])
    ds = mr_instance(number=number + 1, seed=7 if other_than is None else 8, size=32, **words, **same)
    part10(ds)
    return ds


def _store(assoc: object, ds: Dataset) -> int:
    answer = assoc.send_c_store(ds)  # type: ignore[attr-defined]
    return int(answer.Status) if "Status" in answer else -1


def _post(web: httpx.Client, key: str, ds: Dataset) -> tuple[int, str]:
    """Status and body of one STOW, with the request's own UIDs taken out: the rest may not depend on others."""
    body = b"--BB\r\nContent-Type: application/dicom\r\n\r\n" + part10(ds) + b"\r\n--BB--\r\n"
    headers = {"Authorization": f"Bearer {key}", "Content-Type": _CONTENT}
    answer = web.post(f"/dicom-web/studies/{ds.StudyInstanceUID}", content=body, headers=headers)
    text = answer.text.replace(str(ds.SOPInstanceUID), "SOP").replace(str(ds.StudyInstanceUID), "STUDY")
    return answer.status_code, text


def _get(web: httpx.Client, key: str, study: str) -> tuple[int, str]:
    answer = web.get(f"/dicom-web/studies/{study}", headers={"Authorization": f"Bearer {key}"})
    return answer.status_code, answer.text.replace(study, "STUDY")


def _leaks(answer: tuple[int, str], victim: Side) -> bool:
    words = (victim.word[-16:], victim.clinic.slug, victim.clinic.name, str(victim.clinic.id))
    return any(word in answer[1] for word in words)


def _new(doors: Doors, intruder: Side, ds: Dataset, victim: Side) -> bool:
    """The intruder has it as its own first version, the victim's row is as before, and no file is shared."""
    rows = _rows(doors, ds)
    mine = [row for row in rows if row[0] == intruder.clinic.id]
    theirs = [row for row in rows if row[0] == victim.clinic.id]
    return len(mine) == len(theirs) == 1 and mine[0][1] == theirs[0][1] == 1 and mine[0][2] != theirs[0][2]


def _versions(doors: Doors, ds: Dataset) -> set[int]:
    rows = _rows(doors, ds)
    return {sum(1 for row in rows if row[0] == clinic) for clinic in {row[0] for row in rows}}


def _rows(doors: Doors, ds: Dataset) -> list[tuple[UUID, int, str]]:
    found = doors.world.sql(
        'select clinic_id, version, path from serving.instance where "SOPInstanceUID" = %s',
        str(ds.SOPInstanceUID),
    )
    return [(UUID(str(clinic)), version, path) for clinic, version, path in found]


def mixed_up(doors_world: World, sides: tuple[Side, Side]) -> int:
    """Plant a door that takes everybody for the first clinic; how many of the probes notice."""
    tally = Tally()
    with opened(doors_world, find=lambda called, calling, address: sides[0].clinic) as doors:
        dicom_door(doors, sides, 2, tally)
    return len(tally.foreign)
