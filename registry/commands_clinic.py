"""Commands about who may send: clinics, their keys and senders, their scanners, and accounts."""

from typing import Annotated, Any

import typer

from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import ROWS, As, AsJson, Limit, Reason, tell, words

clinic = typer.Typer(help="Clinics: who may send, and how.", no_args_is_help=True)
key = typer.Typer(help="API keys of a clinic: add, list, revoke.", no_args_is_help=True)
peer = typer.Typer(help="Senders of a clinic on the wire: AE titles and addresses.", no_args_is_help=True)
scanner = typer.Typer(help="Scanners, found from the headers of what a clinic sends.", no_args_is_help=True)
account = typer.Typer(help="Accounts: who may change what.", no_args_is_help=True)
account_key = typer.Typer(help="Keys with which people sign in to the pages.", no_args_is_help=True)
account.add_typer(account_key, name="key")
clinic.add_typer(key, name="key")
clinic.add_typer(peer, name="peer")

Slug = Annotated[str, typer.Argument(help="The clinic's short name.", metavar="CLINIC")]


@clinic.command("add")
def clinic_add(
    slug: Slug,
    name: Annotated[str, typer.Option(help="The clinic's full name.")] = "",
    quiet_s: Annotated[
        float, typer.Option(help="Seconds without a new image after which a study is whole.")
    ] = 30.0,
    as_: As = None,
) -> None:
    """Register a clinic."""
    from registry import accounts, clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.CLINIC, as_)
        made = clinics.add(conn, slug, name or slug, by=by, quiet_s=quiet_s)
    tell("none", f"{made.slug} ({made.state})", f"radfleet clinic suspend {made.slug} --reason TEXT")
    talk(f"next: radfleet clinic check {made.slug} says what it still needs")


@clinic.command("list")
def clinic_list(
    limit: Limit = ROWS,
    after: Annotated[str, typer.Option(help="Begin after this short name.")] = "",
    as_json: AsJson = False,
) -> None:
    """List clinics."""
    from registry import clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        rows = clinics.list(conn, limit=limit, after=after)
    table = [
        {"clinic": c.slug, "name": c.name, "state": c.state, "quiet_s": c.quiet_s, "id": c.id} for c in rows
    ]
    show(table, as_json=as_json, empty="no clinic yet: radfleet clinic add")


@clinic.command("show")
def clinic_show(slug: Slug, limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """Show one clinic with its senders, keys, scanners and bindings."""
    from registry import bindings, clinics, scanners_store
    from registry.core.db import database

    with database(settings()).system() as conn:
        it = clinics.by_slug(conn, slug)
        parts = {
            "senders": [_peer(p) for p in clinics.peers(conn, it, limit=limit)],
            "keys": [_key(k) for k in clinics.keys(conn, it, limit=limit)],
            "scanners": [_scanner(s) for s in scanners_store.page(conn, it.id, limit)],
            "bindings": [
                {"task": b.task, "scope": b.scope, "seq": b.seq, "model": b.model, "since": b.since}
                for b in bindings.show(conn, it, limit=limit)
            ],
        }
    facts: dict[str, Any] = {
        "clinic": it.slug,
        "name": it.name,
        "state": it.state,
        "quiet_s": it.quiet_s,
        "id": it.id,
    }
    if as_json:
        show([facts | parts], as_json=True)
        return
    show([facts], as_json=False)
    for title, rows in parts.items():
        typer.echo("")
        show(rows, as_json=False, title=title, empty=f"{title}: none")


@clinic.command("check")
def clinic_check(slug: Slug, as_json: AsJson = False) -> None:
    """Say what a clinic still needs before its first study is answered; exits with 6 while something is missing."""
    from registry import clinics
    from registry.core.db import database
    from registry.onboarding import readiness

    with database(settings()).system() as conn:
        steps = readiness.check(conn, clinics.by_slug(conn, slug))
    if as_json:
        show([{"step": s.name, "done": s.done, "what": s.what, "cure": s.cure} for s in steps], as_json=True)
    else:
        for step in steps:
            typer.echo(f"{'ok     ' if step.done else 'missing'}  {step.name}: {step.what}")
            if step.cure:
                typer.echo(f"         cure: {step.cure}")
    if not all(step.done for step in steps):
        raise typer.Exit(6)


@clinic.command("suspend")
def clinic_suspend(slug: Slug, reason: Reason, as_: As = None) -> None:
    """Refuse what a clinic sends from now on, and leave its jobs waiting."""
    from registry import accounts, clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.CLINIC, as_)
        it = clinics.by_slug(conn, slug)
        clinics.suspend(conn, it, by=by, reason=reason)
    tell(it.state, "suspended", f"radfleet clinic activate {slug}")


@clinic.command("activate")
def clinic_activate(slug: Slug, as_: As = None) -> None:
    """Let a clinic send (again)."""
    from registry import accounts, clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.CLINIC, as_)
        it = clinics.by_slug(conn, slug)
        clinics.activate(conn, it, by=by)
    tell(it.state, "active", f"radfleet clinic suspend {slug} --reason TEXT")


@key.command("add")
def key_add(
    slug: Slug,
    scope: Annotated[list[str] | None, typer.Option(help="submit or read; both without this option.")] = None,
    days: Annotated[int, typer.Option(help="How long it is valid.")] = 365,
    as_: As = None,
) -> None:
    """Create an API key and print it: it cannot be shown again."""
    from registry import accounts, clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.KEY, as_)
        it = clinics.by_slug(conn, slug)
        token = clinics.add_key(conn, it, by=by, scopes=scope or tuple(clinics.Scope), days=days)
    # The key alone on stdout, so that `KEY=$(radfleet clinic key add ...)` works.
    typer.echo(token)
    talk(f"none -> key {token.split('_')[1]}; it is shown this once")
    talk(f"undo: radfleet clinic key revoke {slug} {token.split('_')[1]}")


@key.command("list")
def key_list(slug: Slug, limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """List a clinic's keys without their secrets."""
    from registry import clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        rows = clinics.keys(conn, clinics.by_slug(conn, slug), limit=limit)
    show([_key(k) for k in rows], as_json=as_json, empty=f"no key yet: radfleet clinic key add {slug}")


@key.command("revoke")
def key_revoke(slug: Slug, key_id: Annotated[str, typer.Argument(metavar="KEY")], as_: As = None) -> None:
    """Refuse a key from now on."""
    from registry import accounts, clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.KEY, as_)
        clinics.revoke_key(conn, clinics.by_slug(conn, slug), key_id, by=by)
    tell(f"key {key_id}", "revoked", f"radfleet clinic key add {slug}")


@peer.command("add")
def peer_add(
    slug: Slug,
    calling: Annotated[str, typer.Option(help="The sender's own AE title.")],
    called: Annotated[str, typer.Option(help="The AE title that it calls.")] = "RADFLEET",
    address: Annotated[str, typer.Option(help="Its address, or a range as CIDR.")] = "127.0.0.0/8",
    as_: As = None,
) -> None:
    """Register a sender, or change the address of one."""
    from registry import accounts, clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.CLINIC, as_)
        it = clinics.by_slug(conn, slug)
        before, made = clinics.add_peer(
            conn, it, calling_ae=calling, called_ae=called, address=address, by=by
        )
    pair = f"--calling '{made.calling_ae}' --called '{made.called_ae}'"
    undo = f"add {slug} {pair} --address {before.address}" if before else f"remove {slug} {pair}"
    tell(
        before.address if before else "none",
        f"{made.calling_ae} calling {made.called_ae} from {made.address}",
        f"radfleet clinic peer {undo}",
    )


@peer.command("remove")
def peer_remove(
    slug: Slug,
    calling: Annotated[str, typer.Option(help="The sender's own AE title.")],
    called: Annotated[str, typer.Option(help="The AE title that it calls.")] = "RADFLEET",
    as_: As = None,
) -> None:
    """Refuse a sender from now on."""
    from registry import accounts, clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.CLINIC, as_)
        gone = clinics.remove_peer(
            conn, clinics.by_slug(conn, slug), calling_ae=calling, called_ae=called, by=by
        )
    pair = f"--calling '{gone.calling_ae}' --called '{gone.called_ae}' --address {gone.address}"
    tell(f"{gone.calling_ae} calling {gone.called_ae}", "none", f"radfleet clinic peer add {slug} {pair}")


@peer.command("list")
def peer_list(slug: Slug, limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """List a clinic's senders."""
    from registry import clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        rows = clinics.peers(conn, clinics.by_slug(conn, slug), limit=limit)
    show([_peer(p) for p in rows], as_json=as_json, empty=f"no sender yet: radfleet clinic peer add {slug}")


@scanner.command("list")
def scanner_list(slug: Slug, limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """List the scanners seen at a clinic."""
    from registry import clinics, scanners_store
    from registry.core.db import database

    with database(settings()).system() as conn:
        rows = scanners_store.page(conn, clinics.by_slug(conn, slug).id, limit)
    show([_scanner(s) for s in rows], as_json=as_json, empty="no scanner yet: the first study brings it")


@account.command("add")
def account_add(
    name: str,
    role: Annotated[str, typer.Option(help="viewer, qa, oncall, ml or admin.")] = "viewer",
    as_: As = None,
) -> None:
    """Add an account; the first one must be an admin, and from then on only accounts may change anything."""
    from registry import accounts
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.ACCOUNT, as_)
        made = accounts.add(conn, name, role, by=by)
    tell("none", f"{made.name} ({made.role})", f"radfleet account disable {made.name}")


@account.command("disable")
def account_disable(name: str, as_: As = None) -> None:
    """Let an account change nothing from now on; its name stays in the record."""
    _switch(name, False, as_)
    tell("active", "disabled", f"radfleet account enable {name}")


@account.command("enable")
def account_enable(name: str, as_: As = None) -> None:
    """Let a disabled account act again."""
    _switch(name, True, as_)
    tell("disabled", "active", f"radfleet account disable {name}")


@account.command("list")
def account_list(
    limit: Limit = ROWS,
    after: Annotated[str, typer.Option(help="Begin after this name.")] = "",
    as_json: AsJson = False,
) -> None:
    """List accounts."""
    from registry import accounts
    from registry.core.db import database

    with database(settings()).system() as conn:
        rows = accounts.list(conn, limit=limit, after=after)
    table = [{"account": a.name, "role": a.role, "active": a.active, "since": a.created_at} for a in rows]
    show(table, as_json=as_json, empty="no account yet: radfleet account add NAME --role admin")


@account_key.command("add")
def account_key_add(
    name: str,
    clinic: Annotated[
        str | None, typer.Option(help="Show only this clinic, and let nothing be changed.")
    ] = None,
    days: Annotated[int, typer.Option(help="How long it is valid.")] = 90,
    as_: As = None,
) -> None:
    """Make a key for signing in to the pages and print it: it cannot be shown again."""
    from registry import accounts, clinics
    from registry.core.db import database
    from registry.sign_in import sessions

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.ACCOUNT, as_)
        its = clinics.by_slug(conn, clinic) if clinic else None
        made = sessions.add_key(conn, name, by=by, clinic=its, days=days)
    typer.echo(made)
    talk(f"none -> key {made.split('_')[1]}; it is shown this once")
    talk(f"undo: radfleet account key revoke {name} {made.split('_')[1]}")


@account_key.command("list")
def account_key_list(name: str, limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """List an account's keys without their secrets."""
    from dataclasses import asdict

    from registry.core.db import database
    from registry.sign_in import sessions

    with database(settings()).system() as conn:
        rows = [asdict(row) for row in sessions.keys(conn, name, limit=limit)]
    show(rows, as_json=as_json, empty=f"no key yet: radfleet account key add {name}")


@account_key.command("revoke")
def account_key_revoke(name: str, key_id: str, as_: As = None) -> None:
    """Refuse a key from now on; whoever is signed in with it is signed out."""
    from registry import accounts
    from registry.core.db import database
    from registry.sign_in import sessions

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.ACCOUNT, as_)
        sessions.revoke_key(conn, name, key_id, by=by)
    tell("valid", "revoked", f"radfleet account key add {name}")


def _switch(name: str, active: bool, as_: str | None) -> None:
    from registry import accounts
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.ACCOUNT, as_)
        accounts.switch(conn, name, active=active, by=by)


def _peer(p: Any) -> dict[str, Any]:
    return {"calling": p.calling_ae, "called": p.called_ae, "address": p.address, "since": p.created_at}


def _key(k: Any) -> dict[str, Any]:
    state = "valid" if k.valid else "revoked" if k.revoked_at else "expired"
    return {
        "key": k.key_id, "scopes": words(k.scopes), "state": state, "expires": k.expires_at,
        "last_used": k.last_used_on,
    }  # fmt: skip


def _scanner(s: Any) -> dict[str, Any]:
    return {
        "scanner": s.id, "vendor": s.vendor, "model": s.model, "serial": s.serial, "software": s.software,
        "field_t": s.field_t, "last_seen": s.last_seen_at,
    }  # fmt: skip
