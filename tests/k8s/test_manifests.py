"""Both overlays hold what every check asks, and each check finds the fault that it is there to find."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from monitoring.alerts import rules
from tests.k8s import checks, paths, schemas
from tests.k8s.mutants import MUTANTS, Check
from tests.k8s.render import FOLDER, OVERLAYS, Object, render

pytestmark = pytest.mark.tool("kubectl")

CHECKS: tuple[Check, ...] = (
    schemas.faults, checks.references, checks.no_secret_values, checks.selectors, checks.images,
    checks.known_commands, checks.hardened, checks.mounts, checks.roles, checks.settings, paths.network,
    paths.probes, paths.ray_token,
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_manifests_are_sound(overlay: str, check: Check) -> None:
    assert check(render(overlay)) == []


@pytest.mark.parametrize(("check", "breaks"), [m[1:] for m in MUTANTS], ids=[m[0] for m in MUTANTS])
def test_a_planted_fault_is_found(check: Check, breaks: Callable[[list[Object]], Any]) -> None:
    objects = render("prod")
    whole = copy.deepcopy(objects)
    breaks(objects)
    assert objects != whole, "the mutant changes nothing"
    assert check(objects) != []


def test_every_check_has_a_mutant() -> None:
    assert {mutant[1] for mutant in MUTANTS} == set(CHECKS)


def test_the_cluster_has_the_rules_of_the_one_file() -> None:
    text = (FOLDER / "base" / "alerts.yaml").read_text()
    assert yaml.safe_load(text) == rules.prometheus_rule(), text.splitlines()[0]
