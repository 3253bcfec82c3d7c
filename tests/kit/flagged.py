"""A stream with a flag in a fresh database, row by row as the follower writes them."""

from uuid import UUID

import numpy as np
from psycopg.types.json import Jsonb

from tests.kit.world import DIGEST_A, World

FEATURES = ("snr_wm", "cjv", "efc")


def flagged(
    world: World, clinic: UUID, *, before: int = 60, since: int = 12, shift: float = 3.0, kept_reference: bool = False
) -> int:  # fmt: skip
    """``before`` studies, then ``since`` of another scanner with ``snr_wm`` ``shift`` sd higher; the flag's number.

    With ``kept_reference`` a second epoch began in between that stands on the first one's rows.
    """
    rng = np.random.default_rng(5)
    ((stream,),) = world.sql(
        "insert into monitoring.stream(clinic_id, task, sequence, digest, began_seq)"
        " values (%s, 'ms-lesion', 'FLAIR', %s, 0) returning id", clinic, DIGEST_A,
    )  # fmt: skip
    epochs = 2 if kept_reference else 1
    for epoch in range(1, epochs + 1):
        world.sql(
            "insert into monitoring.reference_epoch(clinic_id, stream_id, epoch, from_seq, cause, fresh, threshold,"
            " by_whom, reason) values (%s, %s, %s, %s, 'first', %s, 3650, 'test', 'test')",
            clinic, stream, epoch, 0 if epoch == 1 else 10**6, epoch == 1,
        )  # fmt: skip
    seqs = []
    for n in range(before + since):
        values = dict(zip(FEATURES, rng.standard_normal(len(FEATURES)).tolist(), strict=True))
        values[FEATURES[0]] += shift * (n >= before)
        ((study,),) = world.sql(
            'insert into serving.study(clinic_id, "StudyInstanceUID", state) values (%s, %s, %s) returning id',
            clinic, f"1.9.{n}", "done",
        )  # fmt: skip
        ((seq,),) = world.sql(
            "insert into serving.feature(clinic_id, study_id, revision, task, digest, profile, values)"
            " values (%s, %s, 1, 'ms-lesion', %s, '{}', %s) returning seq", clinic, study, DIGEST_A, Jsonb(values),
        )  # fmt: skip
        world.sql(
            "insert into monitoring.observation(clinic_id, stream_id, seq, study_id, at, epoch, scanner_group, outcome,"
            " statistic) values (%s, %s, %s, %s, now(), 1, %s, 'ranked', 0)",
            clinic, stream, seq, study, "old scanner" if n < before else "new scanner",
        )  # fmt: skip
        seqs.append(seq)
    world.sql(
        "insert into monitoring.stream_state(clinic_id, stream_id, seq, epoch, state, facts, n, ranked, statistic,"
        " threshold, watching, last_at) values (%s, %s, %s, %s, '', %s, %s, 10, 4000, 3650, true, now())",
        clinic, stream, seqs[-1], epochs, Jsonb({"phase": "watching", "watched": list(FEATURES)}), len(seqs),
    )  # fmt: skip
    ((number,),) = world.sql(
        "insert into monitoring.flag(clinic_id, stream_id, kind, epoch, subject, seq, since_seq, since_at, statistic,"
        " threshold, sentence, would_change)"
        " values (%s, %s, 'drift', %s, 'drift', %s, %s, now(), 4000, 3650, 's', 'w') returning id",
        clinic, stream, epochs, seqs[-1], seqs[before],
    )  # fmt: skip
    return int(number)
