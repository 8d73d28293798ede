"""Going on with a pipeline at the stage that did not finish: new runs in its place, what is finished kept."""

from collections.abc import Callable, Sequence
from pathlib import Path

from workbench.engine.catalog.trained import adapter_shape, lora_faults
from workbench.engine.errors import InputError, RunError
from workbench.engine.planning import Plan
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.chain import StageOf, chain_of, stage_of
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.launcher import resolve_recipe, start_supervisor, write_run
from workbench.engine.runs.state import ENDED
from workbench.engine.runs.store import read_json, summarise


def resume(run: RunDirectory, plan: Callable[[Recipe], Plan], overrides: Sequence[str] = ()) -> list[RunDirectory]:
    """Start a pipeline's unfinished stages again, as new runs; they are returned. `overrides` change the first of them.

    Raises RunError where there is nothing to resume, and for a run that stands alone; InputError for a bad override.
    """
    place = stage_of(run)
    if place is None:
        raise RunError(f"{run.id} cannot be resumed: so far only a pipeline can, at the stage that did not finish.",
                       f"Start it again from its beginning: workbench train {run.recipe}")
    chain = chain_of(place.id)
    first = _first_unfinished(chain, place)
    recipe = resolve_recipe(load_recipe(chain[first].recipe, overrides), None)
    planned = plan(recipe)
    if planned.problems:
        raise InputError(planned.problems[0].message, planned.problems[0].hint)
    recipes = [recipe, *(load_recipe(later.recipe) for later in chain[first + 1:])]
    _refuse_another_shape(recipes, chain[first:])
    renewed: dict[str, RunDirectory] = {}
    for old, one in zip(chain[first:], recipes, strict=True):
        new = create_run_directory(one.name, after=list(renewed.values())[-1] if renewed else None)
        renewed[old.id] = new
        _write_again(old, new, _moved(one, chain, renewed), planned if old is chain[first] else None, renewed)
    for new in renewed.values():
        start_supervisor(new)
    return list(renewed.values())


def _first_unfinished(chain: list[RunDirectory], place: StageOf) -> int:
    states = [summarise(run).state for run in chain]
    for run, state in zip(chain, states, strict=True):
        if state not in ENDED:
            raise RunError(f"{run.id} is {state}: {place.name} has not ended, so there is nothing to resume.",
                           f"Watch it: workbench watch {run.id}")
    if len(chain) < place.of:
        there = {stage.stage for run in chain if (stage := stage_of(run)) is not None}
        gone = next(number for number in range(1, place.of + 1) if number not in there)
        raise RunError(f"Stage {gone} of {place.name} was deleted, so it cannot go on from there.",
                       "Train the recipe again.")
    unfinished = [number for number, state in enumerate(states) if state != "finished"]
    if not unfinished:
        raise RunError(f"All {place.of} stages of {place.name} are finished; there is nothing to resume.")
    return unfinished[0]


def _refuse_another_shape(recipes: Sequence[Recipe], runs: Sequence[RunDirectory]) -> None:
    """Raise InputError where a later stage goes on training the first one's adapter, which has another shape now."""
    first, *later = recipes
    for number, recipe in enumerate(later, 1):
        if "full" in (first.tuning, recipe.tuning) or not Path(recipe.model).is_relative_to(runs[0].path):
            continue
        for _, message, _ in lora_faults(recipe.lora, adapter_shape(first.lora)):
            raise InputError(f"{runs[number].name}: {message}",
                             "Resume with the shape it had, or train the recipe again.")


def _moved(recipe: Recipe, chain: list[RunDirectory], renewed: dict[str, RunDirectory]) -> Recipe:
    """The recipe with what it takes from stages that are started again taken from the new runs."""

    def moved(reference: str) -> str:
        for old in chain:
            if old.id in renewed and Path(reference).is_relative_to(old.path):
                return str(renewed[old.id].path / Path(reference).relative_to(old.path))
        return reference

    reward = recipe.rlhf.reward
    rewards = moved(reward) if isinstance(reward, str) else reward and tuple(map(moved, reward))
    return recipe.model_copy(update={"model": moved(recipe.model),
                                     "rlhf": recipe.rlhf.model_copy(update={"reward": rewards})})


def _write_again(old: RunDirectory, new: RunDirectory, recipe: Recipe, plan: Plan | None,
                 renewed: dict[str, RunDirectory]) -> None:
    stage = stage_of(old)
    assert stage is not None
    previous = renewed[stage.previous].id if stage.previous in renewed else stage.previous
    place = StageOf(stage.id, stage.name, stage.stage, stage.of, previous)
    before = read_json(old.plan)
    document = plan.to_json() if plan is not None else before.get("plan")
    fingerprint = plan.dataset_fingerprint if plan is not None else before.get("dataset_fingerprint")
    write_run(new, recipe, document, fingerprint, pipeline=place)
