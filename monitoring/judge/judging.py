"""One stream's verdict from all that is stored of it, and what follows from it: a flag, a request to stop delivery."""

from collections.abc import Sequence
from uuid import UUID

from monitoring import flags, flags_store, sentences
from monitoring.flags_store import Raised
from monitoring.judge import contract, contracts_store, counts, evidence_store
from monitoring.judge.audits import ROUTINE
from monitoring.judge.counts import Count
from monitoring.judge.harm import with_reviews
from monitoring.judge.verdict import PROVEN, Evidence, Verdict, Word, judge
from monitoring.streams import epochs, feed, missing, streams_store, volume, volume_store
from monitoring.streams.state import Stream
from monitoring.streams.streams_store import Key, Policy
from registry.core.db import Conn

DAYS_A_YEAR = 365
HARM_RULES = (3, 4, 5, 6)
"""Rows of the verdict table in which harm is proven: a person is told, whether the remedy is known or not."""


def judged(
    conn: Conn, clinic_id: UUID, stream_id: UUID, key: Key, its: Stream, *, notify: Sequence[str]
) -> Verdict:
    """Give the stream its verdict, raise a harm flag where harm is proven, ask for a hold where the table says so.

    Needs monitoring's writing transaction.
    """
    policy = streams_store.policy(conn, clinic_id)
    evidence = assembled(conn, clinic_id, stream_id, key, its, policy)
    verdict = judge(evidence)
    known = evidence_store.plain(evidence) | evidence_store.reviews_seen(conn, clinic_id, key)
    flags_store.give(conn, clinic_id, stream_id, its.seq, verdict, known)
    if verdict.rule in HARM_RULES:
        since = feed.since(its)
        at = (since.seq, since.at) if since else (its.seq, its.last_at)
        raised = Raised(
            "harm", its.epoch, "", its.seq, *at, evidence.e_harm, PROVEN, feed.facts(its)["moving"],
            {"group": evidence.harm_group}, None, verdict.sentence, verdict.would_change,
        )  # fmt: skip
        flags.raise_or_update(conn, clinic_id, stream_id, raised, notify=notify)
    for one in evidence.counts:
        if one.name in ("missing", "header") and one.beyond:
            flags.raise_or_update(conn, clinic_id, stream_id, _missing_flag(key, its, one), notify=notify)
    if policy.holds and stops_delivery(verdict, evidence):
        evidence_store.ask_hold(conn, clinic_id, stream_id, its.epoch, verdict.sentence)
    return verdict


def judge_again(conn: Conn, clinic_id: UUID, *, notify: Sequence[str]) -> None:
    """Judge every stream of a clinic by what was just set. Needs monitoring's writing transaction."""
    streams_store.lock(conn, clinic_id)
    for one in streams_store.streams(conn, clinic_id):
        judged(conn, clinic_id, one.stream_id, one.key, epochs.loaded(conn, clinic_id, one), notify=notify)


def stops_delivery(verdict: Verdict, evidence: Evidence) -> bool:
    """A hold for damaged data or for proven harm without a remedy. A version that is merely new, or readers who do not
    agree, are reasons to tune nothing, and none to keep results back.
    """
    return verdict.word is Word.HOLD and (verdict.rule == 5 or bool(evidence.gates))


def assembled(
    conn: Conn, clinic_id: UUID, stream_id: UUID, key: Key, its: Stream, policy: Policy
) -> Evidence:
    """All that the verdict on a stream is made of."""
    promised = contracts_store.in_force(conn, clinic_id, key.task, key.sequence, key.digest)
    promised = promised or contract.of_card(streams_store.card(conn, key.digest))
    ended = evidence_store.ended(conn, clinic_id, policy.late_after)
    a_year = policy.per_day * DAYS_A_YEAR
    failure = counts.count("failure", [failed for failed, _ in ended], policy.failure_max, a_year)
    late = counts.count("late", [late for _, late in ended], policy.late_max, a_year)
    lacking = lacks(its)
    gates = [one.sentence for one in (failure, *lacking) if one.beyond and one.name in ("failure", "missing")]
    flagged = its.flagged_seq is not None
    drift = Evidence(
        reference={g["name"]: g["reference"] for g in feed.facts(its)["groups"]}, contract=promised, gates=tuple(gates),
        since_model_change=its.n if evidence_store.follows_another(conn, clinic_id, key) else None,
        statistic=its.statistic, threshold=its.threshold, watching=its.watching, flagged=flagged,
        counts=(failure, late, *lacking, *volume.counts(volume_store.last(conn, clinic_id).its)), policy=policy.version,
    )  # fmt: skip
    since = its.began.seq if flagged and its.began else None
    began = evidence_store.epoch_began(conn, clinic_id, key)
    reviews = evidence_store.reviews(conn, clinic_id, stream_id, key, began)
    bars = {"reject": policy.reject_max, "edit": policy.edit_max}
    return with_reviews(drift, reviews, since, a_year=ROUTINE * a_year, bars=bars)


def lacks(its: Stream) -> tuple[Count, ...]:
    """What is missing of the reference's features, and of its header fields: each by the field with most evidence."""
    found = []
    for name, of_header in (("missing", False), ("header", True)):
        fields = missing.strongest(its.gaps, of_header=of_header)
        if fields:
            _, gap = fields[0]
            odds = missing.odds(its.gaps, its.threshold, of_header=of_header)
            text = f"{sentences.lacking(fields, gap.at)} (in {gap.lacks} of {gap.of} studies)"
            beyond = its.gaps.proven[of_header]
            found.append(Count(name, gap.of, gap.lacks, gap.bar, odds, beyond, gap.at, text))
    return tuple(found)


def _missing_flag(key: Key, its: Stream, count: Count) -> Raised:
    fields = missing.strongest(its.gaps, of_header=count.name == "header")
    _, gap = fields[0]
    named = [
        {"name": name, "direction": "is missing", "certain": True, "words": sentences.field(name)}
        for name, _ in fields
    ]
    return Raised(
        "missing", its.epoch, count.name, its.seq, gap.seq, gap.at, count.odds, PROVEN,
        named, {}, None, f"{key.sequence}: {sentences.lacking(fields, gap.at)}.", flags.WOULD_CHANGE,
    )  # fmt: skip
