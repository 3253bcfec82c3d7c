"""Bindings: which model version answers a clinic's task, resolved per scanner and changed only by compare-and-swap.

A scope is ``*`` (every scanner of the clinic), ``profile:NAME`` (an acquisition profile) or ``serial:NUMBER``
(one scanner); the most specific one wins. A change closes the open validity range and opens the next, in one
transaction with its event, so the record answers "which version at that moment" for every moment.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from registry import bindings_store, events, local_versions_store, versions
from registry.bindings_store import Binding, BindingRow
from registry.clinics_store import Clinic
from registry.core.db import Conn
from registry.core.settings import LIMITS
from registry.errors import (
    BindingStale,
    NoBinding,
    ReasonMissing,
    ScopeInvalid,
    VersionElsewhere,
    VersionTask,
)
from registry.versions_store import Version

EVERYWHERE = "*"
_SCOPE = re.compile(r"\*|(profile|serial):[^\x00-\x1f\x7f]{1,64}")


@dataclass(frozen=True, slots=True)
class Change:
    """What a change did: the binding before and after (None: nothing bound), and the command that undoes it.

    ``seq`` is what the next compare-and-swap has to expect: 0 while nothing is bound.
    """

    before: Binding | None
    after: Binding | None
    seq: int
    undo: str


def resolve(conn: Conn, clinic_id: UUID, task: str, profile: str, serial: str) -> Binding:
    """The binding that answers a study of this profile and scanner serial number now: serial, else profile, else ``*``.

    Needs the clinic's transaction. Raises NoBinding.
    """
    binding = bindings_store.resolve(conn, clinic_id, task, profile, serial)
    if binding is None:
        raise NoBinding(f"no model version is bound to this clinic for {task}")
    return binding


def tasks(conn: Conn, clinic_id: UUID) -> list[str]:
    """The tasks that this clinic has a binding for. Needs the clinic's transaction."""
    return bindings_store.tasks(conn, clinic_id)


def bound_digests(conn: Conn) -> list[str]:
    """Every digest bound anywhere: what a node fetches before a study asks for it. Needs a system transaction."""
    return bindings_store.bound_digests(conn)


def set(
    conn: Conn, clinic: Clinic, task: str, digest: str, scope: str = EVERYWHERE, expected_seq: int | None = None,
    *, by: str, reason: str, promotion_id: int | None = None,
) -> Change:  # fmt: skip
    """Bind a version to a clinic's task; the next study gets it. Needs a system transaction.

    ``expected_seq`` is the sequence number that the decision was made on (0: nothing bound; None: whatever is
    there). Binding what is bound already changes nothing. ``promotion_id`` names the promotion that does it.
    Raises BindingStale, VersionUnknown, VersionTask, VersionElsewhere, ScopeInvalid, ReasonMissing.
    """
    check(scope, reason)
    fitting(conn, clinic, task, digest)
    before = _present(conn, clinic, task, scope, expected_seq)
    if before and before.digest == digest:
        return Change(before, before, before.seq, "")
    seq = bindings_store.last_seq(conn, clinic.id, task, scope) + 1
    if before:
        bindings_store.close(conn, clinic.id, task, scope)
    bindings_store.add(
        conn, clinic.id, task, scope, seq, digest, by=by, reason=reason, promotion_id=promotion_id
    )
    after = Binding(scope, seq, digest)
    body = {"before": _body(before), "after": _body(after), "reason": reason}
    _record(
        conn, clinic, task, "binding.set", by, body | ({"promotion": promotion_id} if promotion_id else {})
    )
    bindings_store.notify(conn, clinic.id, task, seq)
    undo = _command("set", clinic, task, before.digest, scope, seq) if before else ""
    return Change(before, after, seq, undo or _command("end", clinic, task, "", scope, seq))


def end(
    conn: Conn, clinic: Clinic, task: str, scope: str = EVERYWHERE, expected_seq: int | None = None,
    *, by: str, reason: str,
) -> Change:  # fmt: skip
    """Unbind one scope: wider scopes answer from now on, or none. Raises NoBinding, BindingStale, ReasonMissing."""
    check(scope, reason)
    before = _present(conn, clinic, task, scope, expected_seq)
    if before is None:
        raise NoBinding(f"nothing is bound to this clinic for {task} in this scope")
    bindings_store.close(conn, clinic.id, task, scope)
    _record(
        conn, clinic, task, "binding.ended", by, {"before": _body(before), "after": None, "reason": reason}
    )
    bindings_store.notify(conn, clinic.id, task, before.seq)
    return Change(before, None, 0, _command("set", clinic, task, before.digest, scope, 0))


def show(
    conn: Conn, clinic: Clinic, task: str | None = None, *, limit: int = LIMITS.page_rows
) -> Sequence[BindingRow]:
    """The open bindings of a clinic."""
    return bindings_store.history(conn, clinic.id, task, open_only=True, limit=limit)


def history(
    conn: Conn, clinic: Clinic, task: str | None = None, *, limit: int = LIMITS.page_rows
) -> Sequence[BindingRow]:
    """Every validity range of a clinic's bindings, the latest first."""
    return bindings_store.history(conn, clinic.id, task, open_only=False, limit=limit)


def fitting(conn: Conn, clinic: Clinic, task: str, digest: str) -> Version:
    """The version of this digest, if it may answer this clinic's task. Needs a system transaction.

    Raises VersionUnknown, VersionTask, VersionElsewhere.
    """
    version = versions.by_digest(conn, digest)
    if version.task != task:
        raise VersionTask(f"{version.label} answers {version.task}, not {task}")
    if local_versions_store.elsewhere(conn, clinic.id, digest):
        raise VersionElsewhere(f"{version.label} is a local version of another clinic")
    return version


def check(scope: str, reason: str) -> None:
    """Refuse what is no scope and what is no reason. Raises ScopeInvalid, ReasonMissing."""
    if not _SCOPE.fullmatch(scope):
        raise ScopeInvalid
    if not reason.strip():
        raise ReasonMissing


def _present(conn: Conn, clinic: Clinic, task: str, scope: str, expected_seq: int | None) -> Binding | None:
    """Lock, then look: between the look and the commit nobody else can change this clinic's task."""
    bindings_store.lock(conn, clinic.id, task)
    present = bindings_store.open_one(conn, clinic.id, task, scope)
    seq = present.seq if present else 0
    if expected_seq is not None and expected_seq != seq:
        raise BindingStale(f"expected sequence {expected_seq}, found {seq}")
    return present


def _body(binding: Binding | None) -> dict[str, object] | None:
    return {"scope": binding.scope, "seq": binding.seq, "digest": binding.digest} if binding else None


def _record(conn: Conn, clinic: Clinic, task: str, kind: str, by: str, body: dict[str, object]) -> None:
    events.append(conn, events.of_clinic(clinic.id), by, kind, {"task": task, **body})


def _command(verb: str, clinic: Clinic, task: str, digest: str, scope: str, expected_seq: int) -> str:
    words = ["radfleet", "binding", verb, clinic.slug, task]
    words += [digest] if digest else []
    words += ["--scope", scope] if scope != EVERYWHERE else []
    return shlex.join([*words, "--expected-seq", str(expected_seq), "--reason"]) + " TEXT"
