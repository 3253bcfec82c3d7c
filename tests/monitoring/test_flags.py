"""Flags in people's hands: acknowledged, muted, resolved with a reason, told once, and a record that shows an edit."""

import json
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar
from uuid import uuid4

import pytest

from monitoring import flags, flags_store, notices, sentences
from monitoring.errors import FlagResolved, FlagUnknown, MuteUnfit, ReasonLacking, StreamUnknown
from monitoring.flags_store import Raised
from monitoring.streams import epochs
from monitoring.streams.feed import Arrival
from registry.cli import main
from tests.kit.world import World
from tests.monitoring.fleet import PROFILE, Clinic, drain


@pytest.fixture
def clinic(world: World) -> Clinic:
    """A clinic with flag 1: a new scanner release at study 61."""
    world.version()
    its = Clinic(world)
    world.bind(its.id)
    its.many(60)
    its.many(1, profile=PROFILE | {"software_major": "XA30"})
    drain(world)
    return its


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main([*words])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_person_acknowledges_mutes_and_resolves(
    world: World, clinic: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "monitor", "status")[0] == 6
    code, said = run(capsys, "monitor", "explain", "north")
    assert code == 6
    assert "software release E11 -> XA30" in said
    assert "Not enough data: no contract" in said
    code, said = run(capsys, "flag", "acknowledge", "1", "--reason", "I ask the site", "--as", "ada")
    assert (code, said.splitlines()[0]) == (0, "flag 1 (open) -> flag 1 (acknowledged)")
    assert (
        "(acknowledged) -> flag 1 (muted)"
        in run(capsys, "flag", "mute", "1", "--reason", "wait", "--as", "ada")[1]
    )
    assert "muted" in run(capsys, "flag", "list")[1]
    code, said = run(
        capsys, "flag", "resolve", "1", "--reason", "known update", "--new-reference", "--as", "ada", "--json"
    )
    assert code == 0
    assert json.loads(said.partition("there is no undo")[0])[0]["after"] == "resolved"
    assert run(capsys, "flag", "list")[1].strip() == "no open flag"
    assert run(capsys, "monitor", "status")[0] == 0
    code, said = run(capsys, "flag", "show", "1")
    assert code == 0
    assert "whole" in said
    (shown,) = json.loads(run(capsys, "flag", "show", "1", "--json")[1])
    assert [event["what"] for event in shown["record"]] == ["raised", "acknowledged", "muted", "resolved"]
    ((cause, fresh, by),) = world.sql(
        "select cause, fresh, by_whom from monitoring.reference_epoch where epoch = 2"
    )
    assert (cause, fresh, by) == ("person", True, "ada")
    assert run(capsys, "monitor", "verify", "north")[0] == 0
    world.sql("update monitoring.stream_state set state = %s", b"{}\n")
    assert run(capsys, "monitor", "verify", "north")[0] == 6
    assert "mended" in run(capsys, "monitor", "verify", "north", "--mend")[1]
    assert run(capsys, "monitor", "verify", "north")[0] == 0


def test_bad_input_is_named(clinic: Clinic, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in (
        (("flag", "show", "7"), "monitoring.flag_unknown"),
        (("flag", "mute", "1", "--hours", "721", "--reason", "r"), "monitoring.mute_unfit"),
        (("flag", "acknowledge", "1", "--reason", " "), "monitoring.reason_lacking"),
        (("monitor", "explain", "nowhere"), "monitoring.clinic_unwatched"),
        (("monitor", "verify", "nowhere"), "monitoring.clinic_unwatched"),
    ):
        assert f"code: {code}" in run(capsys, *words)[1]
    with world.db.database.monitor(write=True) as conn:
        with pytest.raises(FlagUnknown):
            flags.show(conn, 99)
        with pytest.raises(MuteUnfit):
            flags.mute(conn, 1, 0, by="ada", reason="r")
        with pytest.raises(ReasonLacking):
            flags.resolve(conn, 1, by="ada", reason="", notify=())
        with pytest.raises(StreamUnknown):
            epochs.begin(conn, clinic.id, uuid4(), fresh=True, by="ada", reason="r")
        flags.resolve(conn, 1, by="ada", reason="seen", notify=())
        with pytest.raises(FlagResolved):
            flags.acknowledge(conn, 1, by="ada", reason="late", notify=())


def test_an_edit_in_the_record_shows(world: World, clinic: Clinic) -> None:
    with world.db.database.monitor(write=True) as conn:
        flags.acknowledge(conn, 1, by="ada", reason="I look", notify=())
        record = flags_store.events(conn, clinic.id, 1)
    assert flags.record_is_whole(record)
    assert not flags.record_is_whole([replace(record[0], body="{}"), record[1]])
    assert not flags.record_is_whole([record[1]])
    assert not flags.record_is_whole([record[1], record[0]])


def test_raising_again_only_changes_the_sentence(world: World, clinic: Clinic) -> None:
    ((stream,),) = world.sql("select id from monitoring.stream")
    at = "2026-01-01T00:00:00+00:00"
    its = Raised("harm", 1, "", 61, 61, at, 64.0, 20.0, [], {}, None, "Harm is proven.", "reviews")
    with world.db.database.monitor(write=True) as conn:
        first = flags.raise_or_update(conn, clinic.id, stream, its, notify=("webhook",))
        assert first is not None
        assert flags.raise_or_update(conn, clinic.id, stream, its, notify=("webhook",)) is None
        newer = replace(its, sentence="Needs a fine-tuned version.")
        assert flags.raise_or_update(conn, clinic.id, stream, newer, notify=("webhook",)) == first
    assert world.sql("select type from monitoring.flag_event where flag_id = %s order by seq", first) == [
        ("raised",), ("changed",),
    ]  # fmt: skip
    assert world.sql("select count(*) from monitoring.notice") == [(2,)]


class Listener(BaseHTTPRequestHandler):
    """Answers what the test says and keeps what it heard."""

    heard: ClassVar[list[dict[str, object]]] = []
    answers: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.answers.pop(0))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_change_is_told_at_most_once_and_a_failure_loses_nothing(world: World, clinic: Clinic) -> None:
    db = world.db.database
    with db.monitor(write=True) as conn:
        flags.acknowledge(conn, 1, by="ada", reason="I look", notify=("webhook",))
    assert notices.send_one(
        db, {"webhook": partial(notices.post, "http://127.0.0.1:9/none")}
    )  # nobody there: it surely did not arrive
    assert world.sql("select state, tries, last_code from monitoring.notice") == [
        ("ready", 1, "ConnectError")
    ]
    Listener.heard, Listener.answers = [], [503, 200]
    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tell = {"webhook": partial(notices.post, f"http://127.0.0.1:{server.server_port}/")}
    for state in ("ready", "sent"):
        world.sql("update monitoring.notice set next_at = now() - interval '1 s' where state = 'ready'")
        assert notices.send_one(db, tell)
        assert world.sql("select state from monitoring.notice") == [(state,)]
    assert not notices.send_one(db, tell)
    server.shutdown()
    server.server_close()
    assert [(told["flag"], told["type"], told["clinic"]) for told in Listener.heard] == [
        (1, "acknowledged", "north")
    ] * 2
    with db.monitor(write=True) as conn:  # one that died while sending is never sent again
        flags.resolve(conn, 1, by="ada", reason="done", notify=("webhook",))
    world.sql(
        "update monitoring.notice set state = 'sending', next_at = now() - interval '1 h' where state = 'ready'"
    )
    assert not notices.send_one(db, tell)
    assert world.sql("select state from monitoring.notice order by event_seq") == [("sent",), ("unsure",)]
    assert world.sql("select state from monitoring.flag_v") == [("resolved",)]


def test_ending_a_harm_flag_asks_for_new_evidence(world: World, clinic: Clinic) -> None:
    ((stream,),) = world.sql("select id from monitoring.stream")
    its = Raised(
        "harm",
        1,
        "",
        61,
        61,
        "2026-01-01T00:00:00+00:00",
        64.0,
        20.0,
        [],
        {},
        None,
        "Harm is proven.",
        "reviews",
    )
    with world.db.database.monitor(write=True) as conn:
        number = flags.raise_or_update(conn, clinic.id, stream, its, notify=())
        assert number is not None
        flags.resolve(conn, number, by="ada", reason="the readers erred", notify=())
        flags.resolve(conn, 1, by="ada", reason="a known update", notify=())  # an acquisition flag: sums stay
    rows = world.sql("select epoch, fresh, reason from monitoring.reference_epoch where epoch > 1")
    assert rows == [(2, False, f"flag {number}: the readers erred")]
    ((from_seq,),) = world.sql("select from_seq from monitoring.reference_epoch where epoch = 2")
    assert from_seq == 61, "reviews of studies up to here are no evidence any more"


def test_nothing_is_told_of_a_muted_flag(world: World, clinic: Clinic) -> None:
    with world.db.database.monitor(write=True) as conn:
        flags.mute(conn, 1, 5, by="ada", reason="night")
        flags.acknowledge(conn, 1, by="ada", reason="later", notify=("webhook",))
    assert world.sql("select count(*) from monitoring.notice") == [(0,)]


def test_a_sentence_names_the_machine_before_its_settings() -> None:
    facts = {
        part: str(PROFILE[part])
        for part in ("vendor", "model", "software_major", "field_t", "coil", "protocol")
    }
    new = facts | {"vendor": "ge", "model": "MR750"}
    its = Arrival(
        61, "2026-03-03T10:00:00+00:00", "", new, {"vendor": ["siemens", "ge"], "model": ["Prisma", "MR750"]}
    )
    said = sentences.arrival("FLAIR", its)
    assert said == (
        "FLAIR comes from a new scanner (GE MR750) since 3 March 2026: "
        "manufacturer Siemens -> GE, model Prisma -> MR750."
    )


def test_a_sentence_leaves_out_what_no_header_said_before() -> None:
    changed = {"model": ["Prisma", "MR750"], "coil": ["?", "head"]}
    its = Arrival(61, "2026-03-03T10:00:00+00:00", "", {"vendor": "ge", "model": "MR750"}, changed)
    said = sentences.arrival("FLAIR", its)
    assert said.endswith(": model Prisma -> MR750.") and "coil" not in said
    only = Arrival(61, its.at, "", its.facts, {"coil": ["?", "head"]})
    assert "coil ? -> head" in sentences.arrival("FLAIR", only)
