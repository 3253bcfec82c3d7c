"""Who may send: AE titles with an address, and API keys."""

import re
from datetime import UTC, datetime

import pytest

from registry import clinics, events
from registry.errors import (
    AddressInvalid,
    AeTitleInvalid,
    ClinicExists,
    ClinicSuspended,
    ClinicUnknown,
    ExpiryInvalid,
    KeyExpired,
    KeyRevoked,
    KeyScope,
    KeysFull,
    KeyUnknown,
    KeyWrong,
    PeerTaken,
    PeerUnknown,
    QuietInvalid,
    ScopeInvalid,
    SlugInvalid,
    UnknownAeTitle,
)
from registry.onboarding import readiness
from tests.kit.db import FreshDb
from tests.kit.registry_rows import add_clinic


def test_a_clinic_is_found_by_its_slug(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        made = add_clinic(conn, quiet_s=2.5)
        assert clinics.by_slug(conn, "lakeside") == made
        assert made.quiet_s == 2.5 and made.state == "registered"
        assert list(clinics.list(conn)) == [made]


@pytest.mark.parametrize("slug", ["nowhere", "", "../../x", "A" * 500, "x\x00y"])
def test_an_unknown_clinic(fresh_db: FreshDb, slug: str) -> None:
    with fresh_db.database.system() as conn, pytest.raises(ClinicUnknown):
        clinics.by_slug(conn, slug)


def test_what_a_clinic_may_not_be(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        add_clinic(conn)
        with pytest.raises(ClinicExists):
            add_clinic(conn)
        with pytest.raises(SlugInvalid):
            add_clinic(conn, "Lake Side")
        with pytest.raises(QuietInvalid):
            add_clinic(conn, "other", quiet_s=0)


def test_list_pages_by_slug(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        for slug in ("cc", "aa", "bb"):
            add_clinic(conn, slug)
        assert [c.slug for c in clinics.list(conn, limit=2)] == ["aa", "bb"]
        assert [c.slug for c in clinics.list(conn, limit=2, after="bb")] == ["cc"]


def test_a_sender_is_its_titles_and_its_address(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        clinics.add_peer(conn, its, calling_ae="MR1 ", called_ae="RADFLEET", address="10.1.2.0/24", by="test")
        found = clinics.by_ae(conn, "RADFLEET        ", "MR1", "10.1.2.9")
        assert found == its
        # An IPv6 socket reports an IPv4 sender so.
        assert clinics.by_ae(conn, "RADFLEET", "MR1", "::ffff:10.1.2.9") == its


@pytest.mark.parametrize(
    ("called", "calling", "address"),
    [
        ("OTHER", "MR1", "10.1.2.9"),
        ("RADFLEET", "MR2", "10.1.2.9"),
        ("RADFLEET", "MR1", "10.1.3.9"),
        ("RADFLEET", "MR1", "not an address"),
        ("RADFLEET", "MR\x00", "10.1.2.9"),
        ("", "", ""),
        ("RADFLEET", "%", "10.1.2.9"),
    ],
)
def test_every_stranger_gets_one_answer(fresh_db: FreshDb, called: str, calling: str, address: str) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        clinics.add_peer(conn, its, calling_ae="MR1", called_ae="RADFLEET", address="10.1.2.0/24", by="test")
        with pytest.raises(UnknownAeTitle) as stranger:
            clinics.by_ae(conn, called, calling, address)
        clinics.suspend(conn, its, by="test", reason="unpaid")
        with pytest.raises(UnknownAeTitle) as suspended:
            clinics.by_ae(conn, "RADFLEET", "MR1", "10.1.2.9")
    assert stranger.value.lines() == suspended.value.lines()


def test_an_address_can_be_corrected_and_a_sender_removed(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        titles = {"calling_ae": "MR1", "called_ae": "RADFLEET", "by": "test"}
        assert clinics.add_peer(conn, its, address="10.1.2.3", **titles)[0] is None
        before, after = clinics.add_peer(conn, its, address="10.1.2.4", **titles)
        assert before is not None and (before.address, after.address) == ("10.1.2.3/32", "10.1.2.4/32")
        assert [p.address for p in clinics.peers(conn, its)] == ["10.1.2.4/32"]
        assert clinics.remove_peer(conn, its, **titles).address == "10.1.2.4/32"
        with pytest.raises(PeerUnknown):
            clinics.remove_peer(conn, its, **titles)
        with pytest.raises(UnknownAeTitle):
            clinics.by_ae(conn, "RADFLEET", "MR1", "10.1.2.4")


def test_what_a_sender_may_not_be(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        one, two = add_clinic(conn, "one"), add_clinic(conn, "two")
        good = {"calling_ae": "MR1", "called_ae": "RADFLEET", "address": "10.0.0.1", "by": "test"}
        clinics.add_peer(conn, one, **good)
        with pytest.raises(PeerTaken):
            clinics.add_peer(conn, two, **good)
        for title in ("", "A" * 17, "A\\B", "Ä"):
            with pytest.raises(AeTitleInvalid):
                clinics.add_peer(conn, two, **{**good, "calling_ae": title})
        for address in ("", "10.0.0.1/24", "host.example"):
            with pytest.raises(AddressInvalid):
                clinics.add_peer(conn, two, **{**good, "calling_ae": "MR2", "address": address})
        assert clinics.by_ae(conn, "RADFLEET", "MR1", "10.0.0.1") == one


def test_a_key_opens_its_clinic_in_its_scope(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        token = clinics.add_key(conn, its, by="test", scopes=["submit"])
        assert re.fullmatch(r"rf_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}", token)
        assert clinics.by_key(conn, token, "submit") == its
        with pytest.raises(KeyScope):
            clinics.by_key(conn, token, "read")
        key = clinics.keys(conn, its)[0]
        assert (key.key_id, key.valid, key.scopes) == (token.split("_")[1], True, ["submit"])
        assert key.last_used_on is not None


def test_the_secret_is_stored_nowhere(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        token = clinics.add_key(conn, add_clinic(conn), by="test")
        assert len(clinics.events.list(conn)) == 2
    secret = token.split("_")[2]
    with fresh_db.connect() as conn:
        for table in ("clinic_key", "event"):
            rows = conn.execute(f"select t::text from registry.{table} t").fetchall()
            assert rows and not any(secret in text for (text,) in rows)


def test_wrong_keys(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        token = clinics.add_key(conn, its, by="test")
        key_id = token.split("_")[1]
        for wrong in (
            "",
            "rf__",
            token[:-1],
            token + "a",
            f"rf_{key_id}_{'0' * 43}",
            f"rf_00000000_{'0' * 43}",
            "x\x00",
        ):
            with pytest.raises(KeyWrong):
                clinics.by_key(conn, wrong, "submit")


def test_revoked_and_expired_keys_are_named_to_who_has_the_whole_secret(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        revoked, expired = (clinics.add_key(conn, its, by="test") for _ in range(2))
        clinics.revoke_key(conn, its, revoked.split("_")[1], by="test")
        with pytest.raises(KeyRevoked):
            clinics.by_key(conn, revoked, "read")
    with fresh_db.connect() as admin:
        admin.execute("update registry.clinic_key set expires_at = now() where revoked_at is null")
    with fresh_db.database.system() as conn:
        with pytest.raises(KeyExpired):
            clinics.by_key(conn, expired, "read")
        with pytest.raises(KeyWrong):
            clinics.by_key(conn, expired[:-1] + ("a" if expired[-1] != "a" else "b"), "read")


def test_a_suspended_clinic_has_no_key(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        token = clinics.add_key(conn, its, by="test")
        clinics.suspend(conn, its, by="test", reason="unpaid")
        with pytest.raises(ClinicSuspended):
            clinics.by_key(conn, token, "submit")
        clinics.activate(conn, its, by="test")
        assert clinics.by_key(conn, token, "submit").state == "active"


def test_two_valid_keys_at_once(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        first, second = (clinics.add_key(conn, its, by="test") for _ in range(2))
        with pytest.raises(KeysFull):
            clinics.add_key(conn, its, by="test")
        clinics.revoke_key(conn, its, first.split("_")[1], by="test")
        third = clinics.add_key(conn, its, by="test")
        for token in (second, third):
            assert clinics.by_key(conn, token, "submit") == its


def test_what_a_key_may_not_be(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        one, two = add_clinic(conn, "one"), add_clinic(conn, "two")
        for scopes in ([], ["admin"], ["submit", "x"]):
            with pytest.raises(ScopeInvalid):
                clinics.add_key(conn, one, by="test", scopes=scopes)
        for days in (0, 5000):
            with pytest.raises(ExpiryInvalid):
                clinics.add_key(conn, one, by="test", days=days)
        token = clinics.add_key(conn, one, by="test")
        with pytest.raises(KeyUnknown):
            clinics.revoke_key(conn, two, token.split("_")[1], by="test")
        assert clinics.by_key(conn, token, "read") == one


def test_every_change_is_in_the_clinics_chain(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        clinics.add_peer(conn, its, calling_ae="MR1", called_ae="RF", address="10.0.0.1", by="anna")
        token = clinics.add_key(conn, its, by="anna")
        clinics.revoke_key(conn, its, token.split("_")[1], by="bert")
        clinics.suspend(conn, its, by="bert", reason="unpaid")
        clinics.activate(conn, its, by="bert")
        found = [(e.actor, e.type) for e in reversed(events.list(conn, events.of_clinic(its.id)))]
    assert found == [
        ("test", "clinic.added"),
        ("anna", "peer.set"),
        ("anna", "key.added"),
        ("bert", "key.revoked"),
        ("bert", "clinic.suspended"),
        ("bert", "clinic.activated"),
    ]


def test_check_names_what_is_missing_with_its_cure(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        steps = readiness.check(conn, its)
        missing = [s.name for s in steps if not s.done]
        assert missing == ["sender", "key", "binding", "destination", "study"]
        assert all(s.cure.startswith("radfleet ") for s in steps if not s.done)
        clinics.add_key(conn, its, by="test")
        # A clinic that sends over HTTP needs no AE title.
        assert [s.name for s in readiness.check(conn, its) if not s.done] == [
            "binding",
            "destination",
            "study",
        ]


def test_check_is_all_done_by_counts(fresh_db: FreshDb) -> None:
    from registry.clinics_store import Readiness

    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
    has = Readiness(1, 1, datetime.now(UTC), 1, 1, 3, 2, False)
    assert all(step.done and not step.cure for step in readiness.steps(its, has))
