"""The pages over a real database and a real server on loopback, with clinics in every state that a page can show."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import uvicorn
from psycopg.types.json import Jsonb

from monitoring.streams import feed
from monitoring.streams.parts import hot
from monitoring.web.app import application
from registry import accounts, clinics
from registry.core.settings import Settings
from registry.sign_in import sessions
from tests.kit.db import FreshDb, free_port
from tests.kit.world import World

FEATURES = ("snr_wm", "cnr", "efc")
MOVED = [
    {"name": "snr_wm", "direction": "up", "certain": True},
    {"name": "cnr", "direction": "up", "certain": False},
]


@dataclass(frozen=True, slots=True)
class Site:
    """A running server. ``keys``: account -> its key."""

    db: FreshDb
    base: str
    keys: dict[str, str]

    def client(self, name: str = "", **more: Any) -> httpx.Client:
        """A browser without pictures, signed in as ``name``."""
        client = httpx.Client(base_url=self.base, timeout=30, **more)
        if name:
            client.cookies.set("radfleet_session", self.token(name))
        return client

    def token(self, name: str) -> str:
        """A session of this account."""
        with self.db.database.system() as conn:
            return sessions.begin(conn, name.partition("/")[0], self.keys[name])


def people(db: FreshDb, **scoped: str) -> dict[str, str]:
    """Accounts with keys: anna admin, bert ml, quin qa, vera viewer; ``scoped`` are name=clinic."""
    keys = {}
    with db.database.system() as conn:
        known = {account.name for account in accounts.list(conn)}
        for name, role in (("anna", "admin"), ("bert", "ml"), ("quin", "qa"), ("vera", "viewer")):
            if name not in known:
                accounts.add(conn, name, role, by="test")
            keys[name] = sessions.add_key(conn, name, by="anna")
        for name, clinic in scoped.items():
            if name not in known:
                accounts.add(conn, name, "viewer", by="anna")
            keys[name] = sessions.add_key(conn, name, by="anna", clinic=clinics.by_slug(conn, clinic))
    return keys


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """An application served by uvicorn on a port of loopback, as in an installation; its address."""
    port = free_port()
    config = uvicorn.Config(app, "127.0.0.1", port, log_config=None, lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.started
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(15)


@contextmanager
def serving(db: FreshDb, keys: dict[str, str], settings: Settings | None = None) -> Iterator[Site]:
    """The pages over a database."""
    with listening(application(settings or db.settings, db.database)) as base:
        yield Site(db, base, keys)


def stream(
    world: World, clinic: UUID, digest: str, *, task: str = "ms-lesion", studies: int = 60, shifted: int = 0,
    verdict: str | None = None, sentence: str = "", flag: bool = False,
) -> tuple[UUID, int | None]:  # fmt: skip
    """A stream with ``studies`` rows of which the last ``shifted`` lie higher; its id and its flag's number.

    The rows are made up and written as the follower writes them: this arranges pages, it does not test a detector.
    """
    rng = random.Random(str(clinic))
    ((id,),) = world.sql(
        "insert into monitoring.stream(clinic_id, task, sequence, digest, began_seq) "
        "values (%s, %s, 'FLAIR', %s, 0) returning id",
        clinic, task, digest,
    )  # fmt: skip
    world.sql(
        "insert into monitoring.reference_epoch(clinic_id, stream_id, epoch, from_seq, cause, fresh, threshold, "
        "by_whom, reason) values (%s, %s, 1, 0, 'first', true, 3650, 'radfleet', 'first studies')",
        clinic, id,
    )  # fmt: skip
    with world.db.connect() as conn, conn.transaction():
        seqs, statistic = [], 1.0
        for n in range(studies):
            late = n >= studies - shifted
            values = {name: rng.gauss(10, 1) + (4 if late and name == "snr_wm" else 0) for name in FEATURES}
            statistic = statistic * 2.2 if late else max(1.0, rng.gauss(4, 2))
            (study,) = conn.execute(
                'insert into serving.study(clinic_id, "StudyInstanceUID", state, finished_at) '
                "values (%s, %s, 'done', now()) returning id",
                (clinic, f"1.2.{rng.randrange(10**12)}"),
            ).fetchone()  # fmt: skip
            (seq,) = conn.execute(
                "insert into serving.feature(clinic_id, study_id, revision, task, digest, profile, values) "
                "values (%s, %s, 1, %s, %s, '{}', %s) returning seq",
                (clinic, study, task, digest, Jsonb(values)),
            ).fetchone()  # fmt: skip
            seqs.append(seq)
            conn.execute(
                "insert into monitoring.observation "
                "values (%s, %s, %s, %s, now(), 1, 'philips ingenia', %s, %s, 'snr_wm')",
                (clinic, id, seq, study, "reference" if n < studies // 2 else "ranked", statistic),
            )  # fmt: skip
        since = seqs[-shifted] if shifted else None
        known = replace(feed.new(1, 3650.0, seqs[-1]), last_at=datetime.now(UTC).isoformat())
        state = hot(known)
        conn.execute(
            "insert into monitoring.stream_state values (%s, %s, %s, 1, %s, %s, %s, %s, %s, 3650, %s, %s, %s, now())",
            (clinic, id, seqs[-1], state, Jsonb({"phase": "watching", "groups": ["philips ingenia"]}), studies,
             studies // 2, statistic, verdict == "watch", seqs[-1] if flag else None, since),
        )  # fmt: skip
        if verdict:
            conn.execute(
                "insert into monitoring.verdict(clinic_id, stream_id, number, seq, verdict, rule, sentence, action, "
                "would_change, evidence) values (%s, %s, 1, %s, %s, 1, %s, %s, %s, %s)",
                (clinic, id, seqs[-1], verdict, sentence, "Have the newest studies reviewed blinded.",
                 "9 more reviews above 0.75", Jsonb({"n": studies})),
            )  # fmt: skip
        number = None
        if flag:
            (number,) = conn.execute(
                "insert into monitoring.flag(clinic_id, stream_id, kind, epoch, subject, seq, since_seq, since_at, "
                "statistic, threshold, features, cause, sentence, would_change) "
                "values (%s, %s, 'drift', 1, 'drift', %s, %s, now() - interval '2 days', %s, "
                "3650, %s, %s, %s, 'Nine more reviews above 0.75.') returning id",
                (clinic, id, seqs[-1], since, statistic, Jsonb(MOVED), Jsonb({"group": "philips ingenia"}),
                 "FLAIR of the Philips Ingenia has more signal to noise since two days: look at its newest studies."),
            ).fetchone()  # fmt: skip
            conn.execute(
                "select monitoring.append_flag_event(%s, %s, 'radfleet', 'raised', '{}')", (clinic, number)
            )
    return UUID(str(id)), number
