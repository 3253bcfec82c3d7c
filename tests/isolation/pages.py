"""Probes through the pages and their JSON twins: one clinic's key against everything that another clinic has.

Every address of the application is asked with everything that names something of the victim, so a page of tomorrow is
probed too. An address that surely leads to the victim's object must be answered as one that leads nowhere.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

import httpx

from monitoring.web import desk
from monitoring.web.app import FILES, FORMS, PAGES
from registry import clinics
from registry.core.db import Conn
from registry.promotions import moves
from tests.isolation.probes import Tally, canary
from tests.kit.site import Site, people, serving, stream
from tests.kit.world import DIGEST_A, DIGEST_B, World

# What an address's argument surely names; other addresses are asked with everything, and only their words are judged.
NAMED = {
    "/clinics/{clinic}": "clinic", "/flags/{id}": "flag", "/flags/{id}/report": "flag", "/promotions/{id}": "promotion",
    "/studies/{study}": "study", "/studies/{study}/picture/{task}": "study",
    "/studies/{study}/mask/{task}": "study", "/models/{digest}": "model",
}  # fmt: skip
NOWHERE = {
    "clinic": "nowhere",
    "flag": "999999",
    "promotion": "999999",
    "study": str(uuid4()),
    "model": "f" * 12,
}
TASK = "brain-extraction"
STATE = """
select (select md5(string_agg(f::text, ',' order by f.id)) from monitoring.flag f),
  (select md5(string_agg(p::text, ',' order by p.id)) from registry.promotion p),
  (select count(*) from registry.binding), (select count(*) from monitoring.flag_event),
  (select count(*) from serving.review)"""


@dataclass(frozen=True, slots=True)
class Held:
    """What a clinic has. ``names``: kind -> how its objects are called in addresses; ``words`` nobody else may read."""

    slug: str
    names: Mapping[str, Sequence[str]]
    words: Sequence[str]


def plant(world: World, slug: str, clinic: UUID) -> Held:
    """A flag, a promotion and a version of its own for a clinic of ``tests.isolation.probes.plant``."""
    word, own = canary(clinic), "sha256:" + clinic.hex * 2
    world.version(own, version=f"9.{slug}")
    world.sql(
        "insert into registry.local_version(clinic_id, digest, parent, cohort, people_train, people_evaluation, tier,"
        " made_by) values (%s, %s, %s, %s, 7, 8, 'T1', 'test')", clinic, own, DIGEST_A, own,
    )  # fmt: skip
    world.sql("update registry.clinic set name = %s where id = %s", word, clinic)
    world.bind(clinic, task=TASK)
    _, flag = stream(
        world, clinic, DIGEST_A, task=TASK, studies=12, shifted=3, verdict="watch", flag=True, sentence=word
    )
    world.sql("update monitoring.flag set sentence = %s where id = %s", word, flag)
    with world.db.database.system() as conn:
        its = clinics.by_slug(conn, slug)
        made = moves.request(conn, its, TASK, DIGEST_B, by="bert", reason=word)
    studies = [
        str(row[0]) for row in world.sql("select id from serving.study where clinic_id = %s limit 4", clinic)
    ]
    names = {"clinic": [slug], "flag": [str(flag)], "promotion": [str(made.id)], "study": studies,
             "model": [own, own[7:19]]}  # fmt: skip
    return Held(slug, names, [slug, str(clinic), word, own[7:19], f"9.{slug}", *studies])


def probe(site: Site, victim: Held, intruder: Held, tally: Tally, *, thin: bool = False) -> None:
    """Everything of the victim by the intruder's key: pages, twins, filters and forms.

    ``thin``: only what an address surely names, and filters by the clinic's name.
    """
    with site.client(f"key{intruder.slug}") as client:
        for path in _own(intruder):
            if client.get(path).status_code != 200:
                raise SystemExit(
                    f"the key does not even open {path} of its own clinic: the probes would prove nothing"
                )
        for template in PAGES | dict.fromkeys(NAMED):
            for kind, name in _names(victim, template, thin):
                for address, headers in _ways(template, name):
                    answer = client.get(address, headers=headers)
                    seen = _foreign(answer.text, name, victim)
                    if NAMED.get(template) == kind:
                        other = client.get(address.replace(name, NOWHERE[kind]), headers=headers)
                        seen |= _told(answer, name, NOWHERE[kind]) != _told(other, name, NOWHERE[kind])
                    tally.note(f"page {template}", seen)
        mark = desk.mark(client.cookies["radfleet_session"])
        fields = {"mark": mark, "reason": "probe", "hours": "1", "decision": "accept", "shown": "yes"}
        for template in FORMS | FILES:
            object_ = re.sub(r"/[a-z]+(/\{task\})?$", "", template)
            for _, name in _names(victim, object_ if thin else template, thin):
                before = site_state(site)
                file = {"mask": ("", b"")} if template in FILES else None
                answer = client.post(_filled(template, name), data=fields, files=file)
                seen = answer.status_code < 400 or _foreign(answer.text, name, victim)
                tally.note(f"form {template}", seen or site_state(site) != before)


def site_state(site: Site) -> Any:
    """What a form could have changed."""
    with site.db.connect() as conn:
        return conn.execute(STATE).fetchone()


@contextmanager
def site(world: World, held: Sequence[Held]) -> Iterator[Site]:
    """The pages, with a key of each clinic alone."""
    keys = people(world.db, **{f"key{it.slug}": it.slug for it in held})
    with serving(world.db, keys) as running:
        yield running


@contextmanager
def reading_the_fleet() -> Iterator[None]:
    """A planted fault: pages that read as the monitor, whoever asks."""

    @contextmanager
    def reading(visit: desk.Visit) -> Iterator[Conn]:
        with visit.desk.db.monitor() as conn:
            yield conn

    with mock.patch.object(desk.Visit, "reading", reading):
        yield


def _own(held: Held) -> list[str]:
    """What a clinic's key opens at home; promotions are the fleet's."""
    kinds = {template: kind for template, kind in NAMED.items() if template in PAGES and kind != "promotion"}
    return ["/", "/flags", "/studies", "/models", *(_filled(t, held.names[k][0]) for t, k in kinds.items())]


def _names(held: Held, template: str, thin: bool) -> Iterator[tuple[str, str]]:
    for kind, names in held.names.items():
        if not thin or kind == NAMED.get(template, "clinic"):
            yield from ((kind, name) for name in (names[:1] if thin else names))


def _filled(template: str, name: str) -> str:
    return re.sub(r"\{[a-z]+\}", lambda found: TASK if found[0] == "{task}" else name, template)


def _ways(template: str, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The page, its twin by address and by header; where nothing is named, filters that name the victim."""
    path = _filled(template, name)
    if "{" not in template:
        for field in ("clinic", "task", "model", "flag", "state", "before"):
            yield f"{path}?{field}={name}", {}
        yield f"{path if path != '/' else '/index'}.json?clinic={name}", {}
        return
    yield path, {}
    yield f"{path}.json", {}
    yield path, {"accept": "application/json"}


def _foreign(text: str, asked: str, victim: Held) -> bool:
    """Whether a word of the victim stands in an answer, what was asked for not counted."""
    return any(word in text for word in victim.words if word not in asked)


def _told(answer: httpx.Response, *asked: str) -> tuple[int, str]:
    """Status and text without what differs between any two answers: the names that were asked, marks of forms."""
    text = re.sub(r'value="[0-9a-f]{64}"', "", answer.text)
    return answer.status_code, re.sub("|".join(rf"\b{re.escape(name)}\b" for name in asked), "", text)
