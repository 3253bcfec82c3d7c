"""The order of the work list: what each thing is, how urgent it is and why, in one sentence each. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

Row = Mapping[str, Any]
HARM_RULES: Final = frozenset({3, 4, 5, 6})
"""Rows of the verdict table in which reviews have proven harm (judge/verdict.py)."""
HOLD_RULE: Final = 2


class Urgency(IntEnum):
    """How urgent a thing is, the most urgent first."""

    HARM = 1
    SILENT = 2
    SUSPECTED = 3
    HOLD = 4
    DRIFT = 5
    EVIDENCE = 6
    SIGNATURE = 7
    ONBOARDING = 8
    ROUTINE = 9
    POINTED = 10
    SEEN = 11


WHY: Final[Mapping[Urgency, str]] = {
    Urgency.HARM: "Reviews prove that results are worse than promised, and each further study gets such a result.",
    Urgency.SILENT: "Nothing comes in any more, so nothing is watched, and studies may lie unsent.",
    Urgency.SUSPECTED: "Reviews speak against the contract, and only more of them prove or clear it.",
    Urgency.HOLD: "Nothing can be judged or tuned here before somebody has looked.",
    Urgency.DRIFT: "Something changed, and nobody looks after it yet.",
    Urgency.EVIDENCE: "Something changed or is new here, and only these readings say whether results are worse.",
    Urgency.SIGNATURE: "Only the second signature is missing before results are delivered.",
    Urgency.ONBOARDING: "The clinic is answered and gets no results before its onboarding is done.",
    Urgency.ROUTINE: "They were drawn by chance, and without them nobody can call the clinic healthy.",
    Urgency.POINTED: "A flag points at them: they show what moved, and are no evidence of harm.",
    Urgency.SEEN: "Somebody looks after it: end it when it is over.",
}
_READ: Final = {
    "harm": Urgency.SUSPECTED, "drift": Urgency.EVIDENCE, "new_group": Urgency.EVIDENCE, "routine": Urgency.ROUTINE,
}  # fmt: skip
_WHO: Final = {"QA team": "", "clinic": "Ask the clinic: ", "ML engineer": "Ask an ML engineer: ",
               "on-call": "Ask who is on call: "}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to do. ``since``: how long it waits; ``page``, ``command``: where it is done; ``seen``: by somebody."""

    urgency: Urgency
    clinic: str
    do: str
    detail: str
    since: datetime | None
    page: str
    command: str
    seen: bool = False

    @property
    def why(self) -> str:
        """Why it is this urgent."""
        return WHY[self.urgency]

    def plain(self) -> dict[str, Any]:
        """As the page's twin and ``--json`` show it."""
        return {
            "urgency": self.urgency.name.lower(), "clinic": self.clinic, "do": self.do, "why": self.why,
            "detail": self.detail, "since": self.since, "page": self.page, "command": self.command,
        }  # fmt: skip


def ranked(items: Iterable[Item]) -> list[Item]:
    """The most urgent first; of equals what nobody looks after, then what waits longest, at no known time last."""
    return sorted(items, key=_place)


def _place(it: Item) -> tuple[int, bool, bool, float, str, str, str, str, str]:
    waits = it.since.timestamp() if it.since else 0.0
    return (it.urgency, it.seen, it.since is None, waits, it.clinic, it.do, it.page, it.command, it.detail)


def flag(row: Row) -> Item | None:
    """A row of monitoring.flag_v; None for one that nobody wants to hear of now."""
    if row["state"] in ("muted", "resolved"):
        return None
    urgency = _of_verdict(row["verdict_rule"])
    is_open = row["state"] == "open"
    if urgency is None or (urgency is Urgency.HOLD and not is_open):
        urgency = Urgency.DRIFT if is_open else Urgency.SEEN
    verb = "Look at" if is_open else "Look again at"
    return Item(
        urgency, row["clinic"], f"{verb} flag {row['id']}", row["sentence"], row["opened_at"], f"/flags/{row['id']}",
        f"radfleet flag show {row['id']}", not is_open,
    )  # fmt: skip


def verdict(row: Row) -> Item | None:
    """A verdict that asks for a person where no flag is open; None for every other one."""
    urgency = _of_verdict(row["rule"])
    if urgency is None:
        return None
    return Item(
        urgency, row["clinic"], f"Look at {row['task']}, {row['sequence']}", row["sentence"], row["since"],
        f"/clinics/{row['clinic']}", f"radfleet monitor explain {row['clinic']}",
    )  # fmt: skip


def _of_verdict(rule: int | None) -> Urgency | None:
    if rule in HARM_RULES:
        return Urgency.HARM
    return Urgency.HOLD if rule == HOLD_RULE else None


def silence(row: Row) -> Item:
    """A clinic of which a stream is silent."""
    return Item(
        Urgency.SILENT, row["clinic"], "Call them", f"No study since then of {', '.join(row['streams'])}.",
        row["since"], f"/clinics/{row['clinic']}", f"radfleet clinic check {row['clinic']}",
    )  # fmt: skip


def drawn(row: Row) -> Item:
    """Studies that were drawn, of one clinic, task and reason, and that this reader may read."""
    n, blinded = row["studies"], row["blinded"]
    how = "draw before our mask is shown" if blinded else "our mask may be corrected"
    second = f"; {row['second']} of them a second time" if row["second"] else ""
    return Item(
        _READ[row["why"]], row["clinic"], f"Read {_studies(n)} of {row['task']}{' blind' if blinded else ''}",
        f"Drawn by chance: {how}{second}.", row["since"], f"/studies/{row['study_id']}",
        f"radfleet review next --clinic {row['clinic']}",
    )  # fmt: skip


def pointed(row: Row) -> Item:
    """Unread studies since an open flag."""
    n = row["studies"]
    which = "the study" if n == 1 else f"some of {_studies(n)}"
    return Item(
        Urgency.POINTED, row["clinic"], f"Read {which} since flag {row['id']}",
        row["sentence"], row["since"], f"/studies/{row['study_id']}", f"radfleet review next --clinic {row['clinic']}",
    )  # fmt: skip


def step(
    clinic: str, name: str, missing: Sequence[Row], *, since: datetime, proposed_by: Sequence[str], me: str
) -> Item | None:
    """The first step of a clinic's onboarding that is not done; None where waiting is all that there is to do.

    ``missing``: what, who and cure of each thing that is missing; ``proposed_by``: who proposed an acceptance that
    nobody has signed.
    """
    if name == "probation" or not missing:
        return None
    page = f"/clinics/{clinic}/onboarding"
    signs = name == "acceptance" and any(by != me for by in proposed_by)
    first = next((it for it in missing if not _WHO[it["who"]]), missing[0])
    told = "; ".join(_WHO[it["who"]] + it["what"] for it in missing)
    urgency = Urgency.SIGNATURE if signs else Urgency.ONBOARDING
    do = (
        "Sign its acceptance, or say why not"
        if signs
        else f"Go on with its onboarding: {name.replace('_', ' ')}"
    )
    command = first["cure"] if first["cure"].startswith("radfleet ") else f"radfleet clinic onboard {clinic}"
    return Item(urgency, clinic, do, f"{told}.", since, page, command)


def _studies(n: int) -> str:
    return "1 study" if n == 1 else f"{n} studies"
