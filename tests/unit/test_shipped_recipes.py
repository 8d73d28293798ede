"""Every recipe that is shipped can be read and planned."""

from pathlib import Path

import pytest

from workbench.engine.hardware.host import host_snapshot
from workbench.engine.objectives import OBJECTIVES
from workbench.engine.paths import recipes_dir
from workbench.engine.planning import make_plan
from workbench.engine.recipe_file import load_recipe
from workbench.engine.tuning import TUNINGS

RECIPES = sorted(recipes_dir().glob("**/*.yaml"))


def test_there_are_a_dozen_and_all_tunings() -> None:
    assert len(RECIPES) >= 13
    assert {load_recipe(path).tuning for path in RECIPES} == {"full", "lora", "qlora"}


def test_every_objective_and_tuning_has_a_demonstration() -> None:
    shipped = {path.stem: load_recipe(path) for path in (recipes_dir() / "tiny").glob("*.yaml")}
    assert set(shipped) >= {f"{objective}_{tuning}" for objective in OBJECTIVES for tuning in TUNINGS}
    for name in shipped.keys() & {f"{objective}_{tuning}" for objective in OBJECTIVES for tuning in TUNINGS}:
        assert f"{shipped[name].objective}_{shipped[name].tuning}" == name


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(recipes_dir())))
def test_recipe_is_valid_and_planned(path: Path) -> None:
    plan = make_plan(load_recipe(path), path.parent, [], host_snapshot())
    assert plan.problems == ()
    assert plan.comparison is not None
    estimate = plan.comparison[plan.recipe.tuning].estimate
    assert estimate is not None
    assert sum(estimate.components.values()) == estimate.peak_bytes
