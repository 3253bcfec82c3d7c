"""Whether a radiology report says that there are lesions of the kind that ms-lesion finds: pure, by rules, EN and DE.

Negation before or after the term, with words that end it, in the manner of NegEx (Chapman et al., J Biomed Inform 2001;
34:301). Unlike there, a negation reaches to the end of its clause: taking a denial for a finding is worse than reading
nothing. The rules were tried on made-up sentences alone, never on real reports. Whoever changes one renames RULES.
"""

import re
import unicodedata
from enum import StrEnum

RULES = "narrative-1"
# How many words after a term may deny it: NegEx's window, and one for German's late verb.
_REACH = 6
# A sentence of more letters is none, and reading it would cost the square of its length.
_SENTENCE_MAX = 1_500


class Says(StrEnum):
    """What a report says about lesions. ``UNCLEAR`` is everything that is neither plainly said nor plainly denied."""

    PRESENT = "present"
    ABSENT = "absent"
    UNCLEAR = "unclear"


def _any(*parts: str) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(parts) + r")\b")


_TERM = _any(
    r"lesions?", r"\w*laesion\w*", r"\w*herd(?:e|en|es|s)?", r"\w*plaques?", r"demyelin\w*", r"\w*entmarkung\w*",
    r"hyperintens\w*", r"\w*signal(?:steigerung|anhebung|alteration)\w*", r"signal abnormalit\w*", r"foci",
    r"leuk(?:o|en)\w*araiosis",
)  # fmt: skip
# Lesions of another kind, where such a word stands at the term.
_OTHER = _any(
    r"mass", r"bon[ey]", r"osseous", r"skull", r"scalp", r"occupying", r"isch\w*", r"infarct\w*", r"h(?:a)?emorr\w*",
    r"trauma\w*", r"metasta\w*", r"tumou?r\w*", r"raumforder\w*", r"knoecher\w*", r"cyst\w*", r"zyst\w*",
    r"athero\w*", r"carotid", r"karotis\w*", r"amyloid", r"mucos\w*", r"schleimhaut\w*",
)  # fmt: skip
# What lies outside of what the task looks at: affirmed, it says nothing of the brain either.
_OUTSIDE = _any(
    r"spin(?:e|al\w*)", r"cord", r"\w*myelon\w*", r"cervical", r"zervikal\w*", r"optic\w*", r"\w*optikus\w*"
)
_LOCAL = _any(
    r"infratentori\w*", r"supratentori\w*", r"brain ?stem", r"hirnstamm\w*", r"cerebell\w*", r"kleinhirn\w*",
    r"pons", r"pont\w+", r"callos\w*", r"balken\w*", r"(?:juxta|sub|intra)?[ck]orti[ck]al\w*", r"periventri\w*",
    r"thalam\w*", r"ganglia", r"stammganglien", r"frontal\w*", r"temporal\w*", r"parietal\w*", r"o[ck][ck]ipital\w*",
    r"left", r"right", r"link(?:s|e\w*)", r"recht(?:s|e\w*)", r"posterior", r"fossa",
)  # fmt: skip
_WHOLE = re.compile(r"supratentori.*infratentori|infratentori.*supratentori")
# Denied together with the term, only the new, the active or the change is denied.
_LIMITED = _any(
    r"new\w*", r"neue\w*", r"\w*enhanc\w*", r"active", r"aktiv\w*", r"florid\w*", r"acute", r"akut\w*", r"further",
    r"weiter\w*", r"additional", r"zusaetzlich\w*", r"more", r"other", r"ander\w*", r"chang\w*", r"aender\w*",
    r"veraender\w*", r"progress\w*", r"progredien\w*", r"increas\w*", r"\w*zunahme", r"growth", r"enlarg\w*",
    r"\w*restrict\w*", r"diffusion\w*", r"\w*anreicher\w*", r"\w*aufnahme", r"aufnehmend\w*", r"typical",
    r"\w*typisch\w*",
    r"large\w*", r"gross\w*", r"difference", r"unterschied\w*", r"longer", r"mehr", r"confluen\w*", r"konfluier\w*",
)  # fmt: skip
_HEDGE = _any(
    r"possibl\w*", r"probabl\w*", r"questionabl\w*", r"suspic\w*", r"suspect\w*", r"may(?:be)?", r"might", r"could",
    r"equivocal", r"uncertain\w*", r"unclear", r"indeterminate", r"definit\w*", r"perhaps",
    r"(?:not|nicht|cannot) (?:\w+ ){0,3}(?:exclude\w*|ruled? out|auszuschliess\w*|ausgeschlossen|sicher\w*)",
    r"(?:can ?not|can t) (?:\w+ )?(?:exclude\w*|rule)", r"moeglich\w*", r"fraglich\w*", r"unsicher\w*", r"unklar\w*",
    r"verdacht\w*", r"verdaecht\w*", r"wahrscheinlich\w*", r"eventuell\w*", r"vermutlich\w*", r"koennte\w*",
    r"sichere\w*", r"eindeutig\w*", r"if any", r"versus", r"vs",
)  # fmt: skip
# What is asked or was known before, not what is seen.
_ASKED = _any(
    r"history of", r"zustand nach", r"rule out", r"to exclude", r"(?:zum |z )?ausschluss", r"assess\w* for",
    r"evaluat\w* for", r"screening", r"anamnes\w*", r"question of", r"frage nach", r"follow ?up (?:of|for)",
    r"verlaufskontrolle", r"protocol", r"protokoll",
)  # fmt: skip
# A lesion that was there and is not any more says nothing of the others.
_GONE = _any(r"no longer", r"nicht mehr", r"resolved", r"zurueckgebildet\w*")
_BEFORE = _any(
    r"no", r"without", r"absence of", r"free of", r"negative for", r"neither", r"nor", r"kein\w*", r"ohne", r"weder",
    r"noch keine?", r"frei von", r"lack of",
    r"(?:not|t) (?:show|demonstrate|reveal|display|contain|have|identify|see|detect)",
)  # fmt: skip
_AFTER = _any(
    r"(?:not|nicht|t) (?:\w+ ){0,2}(?:seen|present|identified|detect\w*|visible|found|demonstrated|evident|shown|"
    r"nachweis\w*|nachzuweisen|nachgewiesen|vorhanden|abgrenz\w*|abzugrenzen|sichtbar|erkennbar|darstellbar|"
    r"feststellbar|gefunden|zu sehen)",
    r"(?:finden|lassen|zeigen|stellen) sich (?:\w+ ){0,3}nicht", r"(?:liegen|bestehen) (?:\w+ ){0,3}nicht",
    r"absent", r"ruled out", r"excluded", r"ausgeschlossen", r"fehlen", r"(?:: )?(?:none|nil|keine)(?= *$)",
)  # fmt: skip
# A negation ends where a quantity or a new main clause begins, as NegEx's termination terms do.
_ENDS = re.compile(
    r"(?:,|\band\b|\bund\b|\bwith\b|\bmit\b|\bbei\b) (?:there (?:is|are)|the|a|an|multiple|several|numerous|few|some|"
    r"many|single|two|three|known|stable|unchanged|es|die|eine?r?|mehrere\w*|multiple\w*|zahlreich\w*|einzeln\w*|einige\w*|"
    r"zwei|drei|bekannt\w*|unveraendert\w*|disseminiert\w*)\b"
)
_CLAUSES = re.compile(
    r"\b(?:but|however|although|though|whereas|nevertheless|yet|except(?: for)?|apart from|aside from|other than|"
    r"aber|jedoch|allerdings|sondern|wohingegen|waehrend|obwohl|ausser|abgesehen von|bis auf)\b"
)
_WELL = re.compile(
    r"\bnormal (?:brain |cranial |head )?(?:mri?|white matter)\b"
    r"|\bwhite matter (?:is |appears |signal |of normal signal ){0,2}(?:normal|unremarkable)\b"
    r"|\bbrain mri? (?:is |was |appears )?(?:normal|unremarkable)\b"
    r"|\bunremarkable (?:brain |cranial )?(?:mri?|white matter)\b"
    r"|\bunauffaellig\w* (?:\w+ )?(?:marklager|weisse\w* substanz)\b"
    r"|\b(?:marklager|weisse substanz) (?:\w+ ){0,2}unauffaellig\b"
)
_HEADING = re.compile(
    r"\b(?:(?P<aside>clinical (?:history|information|indication|details)|history|indications?|"
    r"reason for (?:exam\w*|study)|question|technique|comparison|indikation|fragestellung|klinik|"
    r"klinische (?:angaben|fragestellung)|anamnese|technik|"
    r"vergleich|voruntersuchung\w*)|findings?|impression|conclusion|report|result|opinion|befund\w*|beurteilung|"
    r"zusammenfassung|ergebnis)\s*:"
)
_STOP = re.compile(r"[.!?](?= |$)")
_SHORT = ((r"\bv\. ?a\.", "verdacht auf "), (r"\bz\. ?n\.", "zustand nach "), (r"\bd\.? ?d\.?\b", "versus "),
          (r"\b(ca|bzw|resp|inkl|vgl|nr|approx|dr|prof|max|min|li|re|bds)\.", r"\1 "))  # fmt: skip


def says(text: str) -> Says:
    """What a report's text says of lesions in the brain's white matter. Never raises; keeps nothing.

    A sentence that affirms beats denials elsewhere; a hedge beats denials; a text that says nothing is unclear.
    """
    sentences = _sentences(_plain(text))
    found = {"hedged" for sentence in sentences if len(sentence) > _SENTENCE_MAX}
    read = [sentence for sentence in sentences if len(sentence) <= _SENTENCE_MAX]
    found |= {_clause(clause) for sentence in read for clause in _CLAUSES.split(sentence)}
    if "present" in found:
        return Says.PRESENT
    return Says.ABSENT if "absent" in found and "hedged" not in found else Says.UNCLEAR


def _plain(text: str) -> str:
    """Lower case without accents, German umlauts as two letters, each run of blanks one blank."""
    text = unicodedata.normalize("NFKC", text).casefold()
    for umlaut, letters in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        text = text.replace(umlaut, letters)
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    bare = " ".join(bare.split())
    for short, long in _SHORT:
        bare = re.sub(short, long, bare)
    return bare


def _sentences(text: str) -> list[str]:
    """The sentences of findings, each with blanks around its words and commas; asides (indication, history) are gone.

    An aside ends at the next heading; where none follows, with its own sentence, or a whole report could be lost.
    """
    kept, at, headings = [], 0, list(_HEADING.finditer(text))
    for number, here in enumerate(headings):
        following = headings[number + 1] if number + 1 < len(headings) else None
        kept.append(text[at : here.start()])
        at = here.end()
        if here["aside"]:
            end = _STOP.search(text, at)
            at = following.start() if following else end.end() if end else len(text)
    kept.append(text[at:])
    parts = [part for piece in kept for part in re.findall(r".+?(?:[.!?;](?= |$)|(?= [-*•] )|$)", piece)]
    return [" ".join(re.findall(r"\w+|[,:?]", part)) for part in parts]


def _clause(clause: str) -> str:
    """What one clause says: present, absent, hedged or nothing."""
    if _ASKED.search(clause):
        return "nothing"
    said = {_term(clause, term) for term in _TERM.finditer(clause)} - {"nothing"}
    if _WELL.search(clause) and not _LOCAL.search(clause) and not _OUTSIDE.search(clause):
        said.add("absent")
    if said and (_HEDGE.search(clause) or "?" in clause):
        return "hedged"
    # Of two terms in one clause the affirmed one counts, as it does of two sentences.
    return next((word for word in ("present", "absent") if word in said), "nothing")


def _term(clause: str, term: re.Match[str]) -> str:
    """What the clause says of one term in it."""
    before, after = clause[: term.start()], clause[term.end() :]
    beside = " ".join([*before.split()[-2:], term[0], *after.split()[:1]])
    if _OTHER.search(beside) or _OUTSIDE.search(clause):
        return "nothing"
    denied = _denied(before)
    if denied is None and not _AFTER.search(" ".join(after.partition(",")[0].split()[:_REACH])):
        return "nothing" if _GONE.search(clause) else "present"
    if _LOCAL.search(clause) and not _WHOLE.search(clause):
        return "nothing"
    near = " ".join(before.split()[-3:])
    return "nothing" if any(map(_LIMITED.search, (denied or "", near, term[0], after))) else "absent"


def _denied(before: str) -> str | None:
    """The words between the last negation and the term; None where no negation reaches the term."""
    found = [*_BEFORE.finditer(before)]
    if not found or _ENDS.search(before[found[-1].end() :]):
        return None
    return (
        before[found[0].end() :] if not _ENDS.search(before[found[0].end() :]) else before[found[-1].end() :]
    )
