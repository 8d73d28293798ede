"""The plan of a pipeline: every stage planned as the run it will be, what the stages ask of each other checked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from workbench.engine.catalog.models import resolve_model
from workbench.engine.catalog.trained import adapter_shape, lora_faults
from workbench.engine.errors import InputError
from workbench.engine.pipeline import Links, field_in_stages, stage_links, stage_recipes
from workbench.engine.planning import Plan, PlanProblem
from workbench.engine.recipe import Recipe


def plan_stages(recipe: Recipe, base_dir: Path | None, plan_one: Callable[[Recipe], Plan]) -> Plan:
    """The first stage's plan with all of them in `stages`. A later stage is planned on the base that its weights will
    have; its problems name the field by where the recipe says it."""
    stages, links = stage_recipes(recipe), stage_links(recipe)
    plans: list[Plan] = []
    for stage, link in zip(stages, links, strict=True):
        plan = plan_one(stage if link.start is None else stage.model_copy(update={"model": _base(stage, base_dir)}))
        problems = [*_without_reward(plan.problems, stage, link), *_shape_problems(stages, links, len(plans))]
        plans.append(replace(plan, recipe=stage, problems=tuple(problems)))
    return replace(plans[0], stages=tuple(plans), problems=_all_problems(recipe, plans),
                   warnings=tuple(f"Stage {number} ({plan.recipe.objective}): {warning}"
                                  for number, plan in enumerate(plans, 1) for warning in plan.warnings))


def _base(stage: Recipe, base_dir: Path | None) -> str:
    """The recipe's model without the adapter that the first stage starts from: what that becomes is not known yet."""
    try:
        return replace(resolve_model(stage.model, base_dir), adapter=None).reference
    except InputError:
        return stage.model


def _without_reward(problems: tuple[PlanProblem, ...], stage: Recipe, link: Links) -> list[PlanProblem]:
    """The problems but for a missing reward: an earlier stage trains it."""
    one_weight = stage.rlhf.reward_weights is not None and len(stage.rlhf.reward_weights) == 1
    given = {"rlhf.reward"} | ({"rlhf.reward_weights"} if one_weight else set())
    return [problem for problem in problems if link.reward is None or problem.field not in given]


def _shape_problems(stages: tuple[Recipe, ...], links: tuple[Links, ...], number: int) -> list[PlanProblem]:
    """An adapter that an earlier stage trains goes on being trained, so its shape cannot change."""
    stage, start = stages[number], links[number].start
    if start is None or "full" in (stage.tuning, stages[start].tuning):
        return []
    return [PlanProblem(*fault) for fault in lora_faults(stage.lora, adapter_shape(stages[start].lora))]


def _all_problems(recipe: Recipe, plans: list[Plan]) -> tuple[PlanProblem, ...]:
    found: dict[tuple[str, str], PlanProblem] = {}
    for number, plan in enumerate(plans):
        for problem in plan.problems:
            field = field_in_stages(recipe, number, problem.field)
            shared = field == problem.field
            message = problem.message if shared else f"Stage {number + 1} ({plan.recipe.objective}): {problem.message}"
            found.setdefault((field, message), PlanProblem(field, message, problem.hint))
    return tuple(found.values())
