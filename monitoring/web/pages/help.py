"""Help: what the words mean, what to do first, and every error with its cure, generated from the code itself."""

from monitoring.web.desk import Visit
from monitoring.web.render import Page
from registry import explain
from registry.accounts import ALLOWED
from registry.core.errors import FAMILIES

WORDS = (
    (
        "clinic",
        "Whoever sends studies. It sees only its own archive; its scanners are found from what it sends.",
    ),
    ("version", "A model's exact bytes, named by a digest. A study always says which one answered it."),
    (
        "binding",
        "Which version answers a clinic's task, from when, by whom and why. Nothing is served by default.",
    ),
    ("stream", "One clinic, sequence, task and version: the row of studies that is watched for drift."),
    (
        "drift",
        "What the scanner sends has changed. It says: look here, since when, which feature. It is not yet harm.",
    ),
    ("harm", "Results got worse. Only blinded reviews by experts can say so."),
    (
        "flag",
        "Something that a person must look at. It stays until somebody resolves it or a promotion does.",
    ),
    (
        "gate",
        "A condition of a promotion, judged from people scored with both versions. Too few people: not enough.",
    ),
    ("hold", "Results of a clinic, scanner or version are computed and not delivered."),
)
VERDICTS = (
    ("fine_tune", "Reviews show harm that recalibration would not mend: a version of its own is the cure."),
    ("recalibrate", "Reviews show harm that another threshold would mend."),
    ("hold", "Results must not go out until somebody has looked."),
    ("watch", "Something moved. Whether it harms is not known: reviews will say."),
    ("not_enough_data", "Too few studies or reviews for any word. Silence is never called healthy."),
    ("healthy", "Nothing moved, and reviews confirm it."),
)  # fmt: skip


def show(visit: Visit) -> Page:
    """Words, verdicts, roles and error codes."""
    roles = {str(act): sorted(str(role) for role in fit) for act, fit in ALLOWED.items()}
    errors = [{"code": c.code, "what": explain.headline(c), "cure": c.cure} for c in explain.every_error()]
    exits = {family.exit: name for name, family in FAMILIES.items()}
    facts = {"words": WORDS, "verdicts": VERDICTS, "roles": roles, "errors": errors, "exits": exits}
    return Page("help.html", "/help", "Look up a word, a verdict or an error.", facts)


def error(visit: Visit) -> Page:
    """One error at length. Raises CodeUnknown."""
    facts = explain.facts(explain.find(visit.args["code"]))
    return Page("help_error.html", "/help", str(facts["what"]), {"error": facts})
