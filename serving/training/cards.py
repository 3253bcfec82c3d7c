"""The cards of the shipped packages: what they were trained on, whom they were scored on, and what they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.training.donors import TEST_DONORS, TEST_PEOPLE
from serving.training.labelmaps import HELD_MAPS, TRAIN_MAPS

INTENDED_USE = (
    "Research and demonstration of the platform only. Not a medical device, not validated, not for diagnosis, "
    "treatment or follow-up of anybody."
)
_MAPS = {
    "what": "label maps of heads; every training image was rendered from them, no real image was seen",
    "source": "SynthSeg training label maps (BBillot/SynthSeg), Apache-2.0",
    "people": len(TRAIN_MAPS),
    "people_kept_for_checks": len(HELD_MAPS),
}
_DEVELOPMENT = (
    "The people scored here were looked at while the recipes were made. No weights saw them, but the engineers did: "
    "these are development figures, not a test, and one or two people are no evidence of clinical accuracy."
)
_ATTRIBUTION = [
    "SynthSeg label maps: Billot et al., Medical Image Analysis 2023, doi 10.1016/j.media.2023.102789 (Apache-2.0).",
    "Lesion masks and scored images: Lesjak et al., Neuroinformatics 2018, doi 10.1007/s12021-017-9348-7, and 2016 "
    "(longitudinal), Laboratory of Imaging Technologies, Ljubljana (CC BY 4.0).",
]


def brain_card(version: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """card.json of brain-extraction; rows: `bench.score_brain`."""
    story = {
        "1.0.0": "The net after the first of two learning-rate cycles: an earlier state of the same run as 1.1.0.",
        "1.1.0": "It continues 1.0.0: a cycle with T1 spin-echo contrast, then one with fields of view that end inside "
        "the brain and a margin of nothing around them.",
    }
    return {
        "summary": "Brain mask of any MR contrast: tissue closed over the sulci, with sulcal CSF and 1 mm of border.",
        "version_story": story[version],
        "trained_on": [_MAPS],
        "seeds": 1,
        "scored_on": {
            "what": "raw scans with skull of one person, each alone; the given mask carried into raw space",
            "people": 1,
            "scans": [dict(row) for row in rows],
            "reading": _DEVELOPMENT,
        },
        "known_limits": [
            "Adults only; children, large tumours, surgery and strong movement were not rendered.",
            "The mask is soft at the base of the brain and at the ends of thick-slice stacks.",
            "Works on a 2.5 mm grid: thin structures of the surface are smoothed.",
        ],
        "attribution": _ATTRIBUTION,
        "intended_use": INTENDED_USE,
    }


def lesion_card(version: str, scores: Mapping[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
    """card.json of ms-lesion; scores: `bench.score_all`; calibration: slope, offset, best_threshold."""
    return {
        "summary": "White matter lesions on FLAIR. A raw head is given its brain mask first.",
        "version_story": f"{version}: the first version; its brain stage is that of brain-extraction 1.1.0.",
        "trained_on": [
            _MAPS,
            {
                "what": "lesion masks of people with MS, planted into the rendered brains; no image of theirs was seen",
                "source": "Ljubljana consensus masks in MNI space, CC BY 4.0",
                "people": 29 - len(TEST_PEOPLE) - len(TEST_DONORS),
                "people_left_out": [*TEST_PEOPLE],
                "people_kept_for_checks": [*TEST_DONORS],
            },
        ],
        "calibration": {"on": "generated cases only"}
        | {name: round(value, 3) for name, value in calibration.items()},
        "scored_on": {
            "what": "one person at a time, left out with image and lesion mask; every seed is another training run",
            "people": len(TEST_PEOPLE),
            "rows": scores["lesion"],
            "spread_over_seeds": scores["spread"],
            "generated": scores["generated"],
            "reading": _DEVELOPMENT,
        },
        "known_limits": [
            "Small lesions are missed in slices of 3 mm and more.",
            "Grey matter that is much brighter than white matter may be called lesion.",
            "Lesions of other kinds than white matter lesions of MS were never shown.",
            "Seeds share one pool of rendered volumes: their spread is that of the training, not of the data.",
        ],
        "attribution": _ATTRIBUTION,
        "intended_use": INTENDED_USE,
    }
