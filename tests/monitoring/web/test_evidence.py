"""What reviews say, in lines: every number of the verdict, what is still expected, and nothing out of nothing."""

from monitoring.judge.evidence_store import plain
from monitoring.judge.harm import Review, with_reviews
from monitoring.judge.verdict import Contract, Evidence
from monitoring.web.pages import evidence

WELL = Evidence(
    reference={"a": 60}, contract=Contract(0.8, 0.05, 60, "set by ada", 3), threshold=3650.0, policy=2
)


def test_lines_name_contract_policy_odds_and_labels() -> None:
    bad = [Review(n, n, "a", 0.6, random=True, blinded=n % 5 == 0) for n in range(20)]
    found = dict(evidence.lines(plain(with_reviews(WELL, bad, 0))))
    assert found["Contract"] == "mean Dice 0.750 or more (contract 3, set by ada, n 60); policy 2"
    assert found["Reviews of drawn studies"] == "20, 4 of them blinded; at most 130 more until senior review"
    assert float(found["Odds that results are below the contract"].split()[0].replace("\u202f", "")) > 20
    assert found["How often answers are edited"] == "16 of 16, accepted 90%"
    few = dict(evidence.lines(plain(with_reviews(WELL, bad[:1], None))))
    assert few["Reviews of drawn studies"].endswith(
        "shows after about 24 more, its absence after about 59 more"
    )


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert evidence.lines(None) == evidence.lines({}) == []
    assert dict(evidence.lines(plain(Evidence())))["Contract"].startswith("none")
