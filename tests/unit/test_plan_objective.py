"""What cannot be trained yet can be planned and rehearsed, and is refused at launch."""

from pathlib import Path

import pytest

from workbench.engine.errors import InputError
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.planning import make_plan
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs.launcher import launch


def test_an_objective_that_cannot_be_trained_is_planned_and_not_launched(tmp_path: Path) -> None:
    recipe = parse_recipe("model: tiny-base\ndataset: glossary\nobjective: dpo\n")
    plan = make_plan(recipe, tmp_path, [], host_snapshot())
    assert [problem.field for problem in plan.problems] == ["objective"]
    assert plan.comparison is not None
    assert plan.comparison["lora"].estimate is not None
    with pytest.raises(InputError, match="cannot be trained by this version yet"):
        launch(recipe, plan, tmp_path)
