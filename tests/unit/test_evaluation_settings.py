"""What asks for an evaluation needs rows for it, and says so before anything starts."""

import pytest

from workbench.engine.evaluation import evaluation_faults, greater_is_better
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.planning import make_plan
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs.state import RunState

BASE = "model: tiny-base\ndataset: glossary\n"


@pytest.mark.parametrize("setting", ["early_stopping_patience=2", "load_best_model_at_end=true"])
def test_without_rows_to_evaluate_on_the_field_says_so(setting: str) -> None:
    field = f"training.{setting.partition('=')[0]}"
    plan = make_plan(parse_recipe(BASE, overrides=[f"training.{setting}"]), None, [], host_snapshot())
    assert [problem.field for problem in plan.problems] == [field]
    assert "no rows to evaluate on" in plan.problems[0].message
    with_rows = parse_recipe(BASE, overrides=[f"training.{setting}", "dataset.eval_fraction=0.1"])
    assert evaluation_faults(with_rows) == []


def test_the_metric_is_named_as_in_the_journal() -> None:
    faults = evaluation_faults(parse_recipe(BASE, overrides=["training.metric_for_best_model=eval_loss"]))
    assert [field for field, _, _ in faults] == ["training.metric_for_best_model"]


@pytest.mark.parametrize(("metric", "given", "greater"), [
    ("eval/loss", "null", False), ("eval/perplexity", "null", False), ("eval/rewards/margins", "null", True),
    ("eval/loss", "true", True),
])
def test_which_way_is_better(metric: str, given: str, greater: bool) -> None:
    recipe = parse_recipe(BASE, overrides=[f"training.metric_for_best_model={metric}",
                                           f"training.greater_is_better={given}"])
    assert greater_is_better(recipe.training) is greater


def test_only_the_newest_best_checkpoint_is_marked() -> None:
    state = RunState()
    for step, fields in ((2, {"best": True, "metric": 1.5}), (4, {}), (6, {"best": True, "metric": 1.0})):
        state.apply({"type": "checkpoint", "step": step, "path": f"checkpoints/step-{step}", "verified": True,
                     "removed": ["checkpoints/step-4"] if step == 6 else [], **fields})
    assert [(c.step, c.best, c.metric) for c in state.checkpoints] == [(2, False, 1.5), (6, True, 1.0)]
