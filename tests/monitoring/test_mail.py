"""Changes of flags by e-mail, against the standard library's SMTP server: told once, or said to be unsure."""

import email
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitoring import flags, mail, notices
from registry.core.settings import Settings
from tests.kit.world import World
from tests.monitoring.fleet import PROFILE, Clinic, drain

with (
    warnings.catch_warnings()
):  # Python 3.12 has neither; our Python is 3.11, and a server of our own would prove less
    warnings.simplefilter("ignore", DeprecationWarning)
    import asyncore
    import smtpd

CHANGE = {
    "flag": 3, "clinic": "north", "task": "ms-lesion", "sequence": "FLAIR", "kind": "drift", "state": "open",
    "sentence": "Noisier since May.", "verdict": None, "change": 1, "type": "raised", "at": "2026-05-01T10:00:00+00:00",
}  # fmt: skip


class Server(smtpd.SMTPServer):
    """Takes mail; ``answer`` is what it says to a message, ``refuse`` to a recipient, ``hang_s`` how long it thinks."""

    def __init__(self) -> None:
        self.map: dict[int, Any] = {}
        self.got: list[tuple[list[str], Any]] = []
        self.answer: str | None = None
        self.refuse: dict[str, str] = {}
        self.hang_s = 0.0
        super().__init__(("127.0.0.1", 0), None, map=self.map)
        self.port = self.socket.getsockname()[1]
        server = self

        class Channel(smtpd.SMTPChannel):
            def smtp_RCPT(self, arg: str) -> None:
                address = arg.partition("<")[2].rstrip(">")
                if address in server.refuse:
                    self.push(server.refuse[address])
                else:
                    super().smtp_RCPT(arg)

        self.channel_class = Channel

    def process_message(self, _peer: Any, _sender: str, to: list[str], data: bytes, **_: Any) -> str | None:
        self.got.append((to, email.message_from_bytes(data)))
        time.sleep(self.hang_s)
        return self.answer


@pytest.fixture
def server() -> Iterator[Server]:
    it, end = Server(), threading.Event()

    def serve() -> None:
        while not end.is_set():
            asyncore.loop(0.02, map=it.map, count=1)

    thread = threading.Thread(target=serve)
    thread.start()
    yield it
    end.set()
    thread.join()
    asyncore.close_all(it.map)


def settings(port: int, *, scheme: str = "smtp", to: str = "qa@here.test, oncall@here.test") -> Settings:
    return Settings(mail_server=f"{scheme}://127.0.0.1:{port}", mail_from="radfleet@here.test", mail_to=to)


def test_everybody_gets_one_letter_that_says_what_changed(server: Server) -> None:
    assert mail.send(settings(server.port), CHANGE) == ("sent", "250")
    ((to, letter),) = server.got
    assert to == ["qa@here.test", "oncall@here.test"]
    assert letter["Subject"] == "Radfleet: north, ms-lesion: flag 3 raised"
    assert letter["Message-ID"] == "<radfleet.3.1.202605011000000000@here.test>"
    body = letter.get_payload()
    assert body.startswith("Noisier since May.")
    assert "radfleet flag show 3" in body


@pytest.mark.parametrize(
    ("answer", "state"),
    [("451 later", ("ready", "451")), ("552 too large", ("given_up", "552")), (None, ("sent", "250"))],
)
def test_the_server_s_answer_decides(server: Server, answer: str | None, state: tuple[str, str]) -> None:
    server.answer = answer
    assert mail.send(settings(server.port), CHANGE) == state


def test_no_answer_after_the_text_is_unsure(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "TIMEOUT_S", 0.3)
    server.hang_s = 1.0
    assert mail.send(settings(server.port), CHANGE) == ("unsure", "SMTPServerDisconnected")
    assert len(server.got) == 1


def test_recipients_that_are_refused(server: Server) -> None:
    server.refuse = {"qa@here.test": "550 nobody"}
    assert mail.send(settings(server.port), CHANGE) == ("unsure", "1 of 2 recipients refused")
    assert server.got[0][0] == ["oncall@here.test"]
    server.refuse["oncall@here.test"] = "450 greylisted"
    assert mail.send(settings(server.port), CHANGE) == ("ready", "450")
    server.refuse["oncall@here.test"] = "550 nobody"
    assert mail.send(settings(server.port), CHANGE) == ("given_up", "550")
    assert len(server.got) == 1


def test_what_never_reached_the_text_is_tried_again(server: Server) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert mail.send(settings(nobody.getsockname()[1]), CHANGE) == ("ready", "ConnectionRefusedError")
    assert mail.send(settings(server.port, scheme="smtp+starttls"), CHANGE) == (
        "ready",
        "SMTPNotSupportedError",
    )
    clear = replace(settings(server.port), mail_server=f"smtp://me@127.0.0.1:{server.port}")
    assert mail.send(clear, CHANGE) == ("ready", "ValueError"), "no password without TLS"
    assert mail.send(settings(server.port, scheme="http"), CHANGE) == ("ready", "ValueError")
    assert server.got == []


@contextmanager
def behind_tls(folder: Path, port: int) -> Iterator[tuple[int, Path]]:
    """A TLS door in front of ``port`` with a certificate of its own: (its port, the certificate)."""
    crt, key = folder / "crt.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here.test", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(crt)], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)

    def pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain = door.accept()[0]
                with suppress(OSError), context.wrap_socket(plain, server_side=True) as outer:
                    inner = socket.create_connection(("127.0.0.1", port))
                    back = threading.Thread(target=pass_on, args=(inner, outer), daemon=True)
                    back.start()
                    pass_on(outer, inner)
                    back.join(5)
                    inner.close()

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=serve, daemon=True).start()
        yield door.getsockname()[1], crt
        door.shutdown(socket.SHUT_RDWR)


@pytest.mark.tool("openssl")
def test_tls_is_trusted_only_with_a_certificate(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with behind_tls(tmp_path, server.port) as (port, crt):
        its = settings(port, scheme="smtps")
        assert mail.send(its, CHANGE) == ("ready", "SSLCertVerificationError")
        assert server.got == []
        monkeypatch.setenv("SSL_CERT_FILE", str(crt))
        assert mail.send(its, CHANGE) == ("sent", "250")
        assert len(server.got) == 1


def test_each_channel_tells_a_change_once(
    world: World, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.version()
    its, db = Clinic(world), world.db.database
    world.bind(its.id)
    its.many(60)
    its.many(1, profile=PROFILE | {"software_major": "XA30"})
    drain(world)
    both = replace(settings(server.port), webhook_url="http://127.0.0.1:9/none")
    assert both.channels() == ("webhook", "email")
    with db.monitor(write=True) as conn:
        flags.acknowledge(conn, 1, by="ada", reason="I look", notify=both.channels())
    tell = notices.channels(both)
    assert notices.send_one(db, tell) and notices.send_one(db, tell)
    assert not notices.send_one(db, tell), "the webhook waits for its next try, the letter is sent"
    rows = "select channel, state, tries, last_code from monitoring.notice order by channel"
    assert world.sql(rows) == [("email", "sent", 1, "250"), ("webhook", "ready", 1, "ConnectError")]
    monkeypatch.setattr(mail, "TIMEOUT_S", 0.3)
    server.hang_s = 1.0
    with db.monitor(write=True) as conn:
        flags.resolve(conn, 1, by="ada", reason="done", notify=("email",))
    world.sql("update monitoring.notice set next_at = now() + interval '1 h' where channel = 'webhook'")
    assert notices.send_one(db, tell)
    assert not notices.send_one(db, tell), "what may have arrived is never sent again"
    assert [letter["Subject"].rpartition(" ")[2] for _, letter in server.got] == ["acknowledged", "resolved"]
    assert world.sql("select state from monitoring.notice where channel = 'email' order by event_seq") == [
        ("sent",), ("unsure",),
    ]  # fmt: skip
