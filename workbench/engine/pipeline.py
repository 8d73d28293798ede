"""Pipelines: a recipe with stages, each a whole recipe of its own that begins from an earlier stage's result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.engine.recipe import Recipe
from workbench.engine.text import slug

_NAME_LENGTH = 40
"""What a run's id has room for: a stage's number must not be cut off."""


@dataclass(frozen=True)
class Links:
    """Which earlier stages (0-based) a stage goes on from: the one whose result it starts with, and the reward model
    that judges its answers. None: what the recipe itself names."""

    start: int | None
    reward: int | None


def stage_data(recipe: Recipe) -> list[dict[str, Any]]:
    """Each stage as the plain data of a recipe: the recipe's own settings with the stage's over them.

    Sections are merged setting by setting; a stage that names rows of its own inherits nothing of another dataset.
    """
    shared = recipe.model_dump(mode="json", exclude_unset=True, exclude={"stages", "name"})
    merged = []
    for number, stage in enumerate(recipe.stages, 1):
        data = {**_merged(shared, stage), "stages": []}
        suffix = f"-{number}-{data.get('objective', 'sft')}"
        data.setdefault("name", slug(recipe.name)[:_NAME_LENGTH - len(suffix)].rstrip("-._") + suffix)
        merged.append(data)
    return merged


def stage_recipes(recipe: Recipe) -> tuple[Recipe, ...]:
    """Each stage as a recipe; stages were checked when the recipe was read. Raises RecipeError for others."""
    from workbench.engine.recipe_file import recipe_from_data  # which checks stages with what is above

    return tuple(recipe_from_data(data, f"stage {number}") for number, data in enumerate(stage_data(recipe), 1))


def stage_links(recipe: Recipe) -> tuple[Links, ...]:
    """What each stage goes on from: the last result that can write, and, for RLHF, the last reward model."""
    stages, links = stage_recipes(recipe), []
    for number, stage in enumerate(stages):
        writers = [earlier for earlier in range(number) if stages[earlier].objective != "reward"]
        scorers = [earlier for earlier in range(number) if stages[earlier].objective == "reward"]
        start = writers[-1] if writers and "model" not in recipe.stages[number] else None
        asks = stage.objective == "rlhf" and stage.rlhf.reward is None
        links.append(Links(start, scorers[-1] if asks and scorers else None))
    return tuple(links)


def field_in_stages(recipe: Recipe, number: int, field: str) -> str:
    """A setting of a stage (0-based), by where the recipe says it: `stages.1.training.foo`, or `training.foo` where it
    is shared."""
    return f"stages.{number}.{field}" if says(recipe.stages[number], field.split(".")) else field


def says(stage: Any, location: list[Any]) -> bool:
    """Whether a stage's own settings reach to where a location leads, its last part left open in a section."""
    for part in location:
        if not isinstance(stage, Mapping):
            return True
        if part not in stage:
            return False
        stage = stage[part]
    return True


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    result = dict(shared)
    for key, value in own.items():
        before = shared.get(key)
        names_rows = key == "dataset" and not section and (not isinstance(value, Mapping) or "path" in value)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and not names_rows:
            result[key] = _merged(before, value, key)
        else:
            result[key] = value
    return result
