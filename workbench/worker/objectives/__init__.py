"""Training objectives, one readable file each: `build_trainer`, and the rows of a worst-case micro-batch."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from workbench.engine.objective_checks import kl_weight
from workbench.engine.recipe import Recipe

if TYPE_CHECKING:
    from workbench.worker.objectives.common import Rows


def objective_module(objective: str) -> ModuleType:
    """The module of an objective. Imported when asked for: each brings a trainer of trl along."""
    return importlib.import_module(f"workbench.worker.objectives.{objective}")


def needs_reference(recipe: Recipe) -> bool:
    """Whether a frozen copy of the model stays beside the trained one: where every weight is trained and the loss
    compares with the beginning. Adapters are switched off instead."""
    if recipe.tuning != "full":
        return False
    if recipe.objective == "rlhf":
        return kl_weight(recipe) > 0
    return bool(getattr(objective_module(recipe.objective), "NEEDS_REFERENCE", False))


def shuffled_if_kept_in_order(recipe: Recipe, rows: "Rows") -> "Rows":
    """The rows, shuffled by the recipe's seed where the trainer would take them as they come: good and bad answers may
    stand in a file one kind after the other."""
    if not getattr(objective_module(recipe.objective), "IN_ORDER", False):
        return rows
    return rows.shuffle(seed=recipe.training.seed)
