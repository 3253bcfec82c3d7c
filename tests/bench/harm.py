"""The number that matters: from a harmful change to the right verdict, in days, labels, minutes, wrong results.

SIMULATED clinics of 10 studies a day: 50 studies make the reference, 50 are quiet, then something changes. Dice is
drawn (beta, sd .12, healthy .80, contract .75); what other thresholds would give is the same Dice, moved by a gain that
the event names, with noise. Readers add noise (sd .03), come 0 to 3 days late, accept without drawing what is .90 or
better, and are drawn to our mask (an open reading loses a tenth of the loss). The real modules decide: the detector
(streams/feed), who is read (judge/audits), what follows (judge/harm, judge/verdict).

Beside it: a fixed audit (20 random studies every 30 days, harmful when their mean lies below the contract by a t-test
at .05; it names no remedy and its people fine-tune), and "drift alarm = retrain" with the same detector.

The full form does the same with measured studies, in which features and Dice belong together (harm_measured.py).

Run: python -m tests.bench.harm [--quick] [--clinics N] [--seed N]
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ttest_1samp

from monitoring.detect import detector
from monitoring.judge import audits
from monitoring.judge.harm import Review, loss_of, with_reviews
from monitoring.judge.verdict import Contract, Evidence, Word, judge
from monitoring.streams import feed, groups
from monitoring.streams.state import Row, Stream
from tests.bench.record import BUILD, Goal, record, versions

WIDTH, MOVED, PER_DAY, QUIET = 20, 5, 10, 100
H = detector.threshold(PER_DAY, 1)
HEALTHY, SD, D_REF, MARGIN = 0.80, 0.12, 0.80, 0.05
STEPS = (-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
UNUSABLE = 0.60
"""A delivered result with a lower Dice is called wrong here."""
ACCEPTED = 0.90
MINUTES = {"accept": 2.0, "edit": 6.0, "blinded": 10.0}
FIXED_DAYS, FIXED_STUDIES = 30, 20
GROUP = groups.facts({"vendor": "siemens", "model": "Prisma"})


@dataclass(frozen=True, slots=True)
class Event:
    """What changes at study 100: the shift of 5 of 20 features in sd, the mean Dice, the gain that the best threshold
    would bring, and the verdicts that are right.
    """

    shift: float
    dice: float
    gain: float
    right: tuple[Word, ...]


EVENTS: Mapping[str, Event] = {
    "nothing": Event(0.0, 0.80, 0.0, ()),
    "drift without harm": Event(1.0, 0.80, 0.0, ()),
    "threshold off": Event(1.0, 0.66, 0.15, (Word.RECALIBRATE,)),
    "model broken": Event(1.0, 0.62, 0.02, (Word.FINE_TUNE,)),
    "broken without drift": Event(0.0, 0.62, 0.02, (Word.FINE_TUNE,)),
    "mild, under a weak drift": Event(0.5, 0.69, 0.01, (Word.FINE_TUNE, Word.HOLD)),
}
DECISIVE = ("drift without harm", "threshold off", "model broken", "broken without drift")


@dataclass(slots=True)
class Clinic:
    """One simulated clinic: every study's features, true Dice, Dice at other thresholds, and its reader's whims."""

    event: Event
    days: int
    rng: np.random.Generator
    dice: np.ndarray = field(init=False)
    values: np.ndarray = field(init=False)
    d_ref: float = D_REF
    unusable: float = UNUSABLE

    def __post_init__(self) -> None:
        n = self.days * PER_DAY
        after = np.arange(n) >= QUIET
        mean = np.where(after, self.event.dice, HEALTHY)
        size = mean * (1 - mean) / SD**2 - 1
        self.dice = self.rng.beta(mean * size, (1 - mean) * size)
        common = self.rng.standard_normal((n, 1))
        self.values = 0.5 * common + np.sqrt(0.75) * self.rng.standard_normal((n, WIDTH))
        self.values[after, :MOVED] += self.event.shift

    def row(self, n: int) -> dict[str, float]:
        """The features of study ``n``."""
        return {f"f{k}": float(v) for k, v in enumerate(self.values[n])}

    def read(self, n: int, seq: int, blinded: bool) -> Review:
        """What a reader says of study ``n``."""
        seen = float(np.clip(self.dice[n] + self.rng.normal(0, 0.03), 0, 1))
        seen = seen if blinded else 1 - 0.9 * (1 - seen)
        accepted = not blinded and seen >= ACCEPTED
        decision = "accept" if accepted else "edit"
        ladder = self.ladder(n, seen)
        loss = loss_of(decision, None if accepted else seen)
        return Review(
            seq, n, groups.name(GROUP), loss, random=True, study=str(n), decision=decision, blinded=blinded,
            ladder={step: 1.0 if step == 0 else min(its, 1.0) for step, its in ladder.items()} if accepted else ladder,
        )  # fmt: skip

    def ladder(self, n: int, seen: float) -> dict[float, float]:
        """Dice at each step of the threshold, as a reader who sees ``seen`` at step 0 would measure it."""
        gain = self.event.gain if n >= QUIET else 0.0
        return {
            step: float(
                np.clip(seen + gain * (1 - ((step + 1.5) / 1.5) ** 2) + self.rng.normal(0, 0.02), 0, 1)
            )
            for step in STEPS
        } | {0.0: seen}


@dataclass(frozen=True, slots=True)
class Found:
    """What one way of watching said of one clinic, and what it had cost until then since the change.

    ``warned``: days until harm was proven and the clinic told, the remedy known or not.
    """

    word: str | None
    days: float | None
    labels: int
    minutes: float
    wrong: int
    warned: float | None = None


def minutes_of(reviews: Sequence[Review]) -> float:
    return sum(MINUTES["blinded" if r.blinded else r.decision] for r in reviews)


def found(its: Clinic, word: str | None, at: int, read: Sequence[Review]) -> Found:
    """``at``: the study after which it was said."""
    since = [r for r in read if r.study_seq >= QUIET]
    wrong = int((its.dice[QUIET:at] < its.unusable).sum())
    days = (at - QUIET) / PER_DAY if word else None
    return Found(word, days, len(since), minutes_of(since), wrong)


def evidence(its: Clinic, stream: Stream, flagged_since: int | None, reviews: Sequence[Review]) -> Evidence:
    drift = Evidence(
        reference={groups.name(GROUP): 50 if stream.detector else stream.n},
        contract=Contract(its.d_ref, MARGIN, 60, "set"), statistic=stream.statistic, threshold=H,
        watching=stream.watching, flagged=stream.flagged_seq is not None,
    )  # fmt: skip
    return with_reviews(drift, reviews, flagged_since, a_year=audits.ROUTINE * PER_DAY * 365)


def radfleet(its: Clinic) -> tuple[Found, Found]:
    """The flag line as it runs; and, from the same run, what "drift alarm = retrain" would have said."""
    stream, standing, since = feed.new(1, H, -1), audits.Standing(), None
    waiting: list[tuple[float, int, bool]] = []
    read: list[Review] = []
    alarm = found(its, None, len(its.dice), ())
    warned: float | None = None
    benign: Found | None = None
    for n in range(len(its.dice)):
        group = stream.groups.get(groups.name(GROUP))
        beside = None if stream.detector is None else group.n if group else 0
        chance = audits.chance(standing, drifting=stream.flagged_seq is not None, group_studies=beside)
        drawn = audits.Draw(*chance, its.rng.random(), its.rng.random() < audits.BLINDED, False)
        step = feed.feed(stream, Row(n, str(n), "2026-01-01T00:00:00+00:00", GROUP, its.row(n)))
        stream = step.stream
        if step.drift:
            since = stream.began.seq if stream.began else n
            if alarm.word is None:
                alarm = found(its, "retrain", n + 1, ())
        if drawn.chosen:
            waiting.append((n + its.rng.uniform(0, 3) * PER_DAY, n, drawn.blinded))
        come = sorted(one for one in waiting if one[0] <= n)
        waiting = [one for one in waiting if one[0] > n]
        read += [its.read(study, len(read) + k, blinded) for k, (_, study, blinded) in enumerate(come)]
        if not come and not step.drift:
            continue
        known = evidence(its, stream, since, read)
        verdict = judge(known)
        standing = audits.Standing(
            verdict.rule, known.labels, suspected=known.suspected,
            answers_drift=stream.flagged_seq is not None,
        )  # fmt: skip
        if warned is None and verdict.rule in (3, 4, 5, 6):
            warned = (n + 1 - QUIET) / PER_DAY
        if verdict.rule in (3, 4, 5):
            return replace(found(its, verdict.word.value, n + 1, read), warned=warned), alarm
        if benign is None and stream.flagged_seq is not None and known.confirmed:
            benign = found(its, "benign", n + 1, read)
    return replace(benign or found(its, None, len(its.dice), read), warned=warned), alarm


def fixed(its: Clinic) -> Found:
    """20 random studies every 30 days."""
    read: list[Review] = []
    for end in range(FIXED_DAYS, its.days + 1, FIXED_DAYS):
        month = its.rng.choice(
            np.arange((end - FIXED_DAYS) * PER_DAY, end * PER_DAY), FIXED_STUDIES, replace=False
        )
        batch = [its.read(int(n), len(read) + k, blinded=False) for k, n in enumerate(sorted(month))]
        read += batch
        losses = [r.loss for r in batch if r.loss is not None]
        if ttest_1samp(losses, 1 - (its.d_ref - MARGIN), alternative="greater").pvalue < 0.05:
            return found(its, "fine_tune", end * PER_DAY, read)
    return found(its, None, len(its.dice), read)


def spread(numbers: Sequence[float]) -> list[float] | None:
    """Median and 90 %."""
    return [round(float(np.quantile(numbers, q)), 1) for q in (0.5, 0.9)] if numbers else None


def told(event: Event, rows: Sequence[Found], right: set[str | None]) -> dict[str, Any]:
    """One way of watching over the clinics of one event. Costs are those of the clinics of which it said anything."""
    said = [row for row in rows if row.days is not None and row.days >= 0]
    harmful = bool(event.right)
    words: dict[str, int] = {}
    for row in rows:
        words[row.word or "nothing"] = words.get(row.word or "nothing", 0) + 1
    return {
        "clinics": len(rows), "right": sum(row.word in right for row in rows), "said": words,
        "days, median and 90 %": spread([row.days for row in said if row.days is not None]),
        "days until harm is proven": spread([row.warned for row in rows if row.warned is not None]),
        "labels": spread([row.labels for row in said]), "minutes": spread([row.minutes for row in said]),
        "wrong results delivered": spread([row.wrong for row in (rows if harmful else [])]),
    }  # fmt: skip


def measure(clinics: int, seed: int, days: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for place, (name, event) in enumerate(EVENTS.items()):
        ours, alarms, fixeds = [], [], []
        for n in range(clinics):
            one, alarm = radfleet(Clinic(event, days, np.random.default_rng([seed, place, n])))
            ours.append(one)
            alarms.append(alarm)
            fixeds.append(fixed(Clinic(event, days, np.random.default_rng([seed, place, n]))))
        wanted = {word.value for word in event.right}
        trained = {"retrain"} if "fine_tune" in wanted else set()
        out[name] = {
            "radfleet": told(event, ours, wanted or {None, "benign"}),
            "fixed audit": told(event, fixeds, wanted or {None}),
            "drift alarm = retrain": told(event, alarms, trained if event.right else {None}),
        }
        print(name)
        for way, row in out[name].items():
            costs = {key: row[key] for key in row if key not in ("clinics", "right", "said") and row[key]}
            print(
                f"  {way:22} right {row['right']:3} of {row['clinics']}; {row['said']}; {costs}", flush=True
            )
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description="From a harmful change to the right verdict.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--clinics", type=int)
    parser.add_argument("--seed", type=int, default=201)
    asked = parser.parse_args()
    began = time.perf_counter()
    clinics, days = asked.clinics or (6 if asked.quick else 30), 130
    figures = measure(clinics, asked.seed, days)
    ours = {name: rows["radfleet"] for name, rows in figures.items()}
    broken = ours["model broken"]
    decisive = sum(ours[name]["right"] for name in DECISIVE) / (clinics * len(DECISIVE))
    calm = [ours[name]["said"] for name in ("nothing", "drift without harm")]
    goals = [
        Goal("fine_tune found, share of clinics with a broken model under drift", broken["right"] / clinics, 0.95),
        Goal("labels until then, median", (broken["labels"] or [None])[0], 30, at_least=False),
        Goal("days until then, median", (broken["days, median and 90 %"] or [None])[0], 21, at_least=False),
        Goal("days until then, 90 %", (broken["days, median and 90 %"] or [None, None])[1], 45, at_least=False),
        Goal("verdict right, decisive events", decisive, 0.93),
        Goal("fine_tune without harm", float(sum(said.get("fine_tune", 0) for said in calm)), 0, at_least=False),
    ]  # fmt: skip
    data, measured_events = os.environ.get("RADFLEET_DATA", ""), None
    if data and not asked.quick:
        from tests.bench import harm_measured, measured

        table = BUILD / "measured.csv"
        measured.write(table, Path(data), turns=4)
        more, measured_events = harm_measured.measure(table, clinics, asked.seed, days)
        goals += more
    return record(
        "bench-harm", goals, simulated=True, measured=measured_events, clinics_an_event=clinics, seed=asked.seed,
        days=days, per_day=PER_DAY,
        seconds=round(time.perf_counter() - began, 1), events=figures, versions=versions(["numpy", "scipy"], {}),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
