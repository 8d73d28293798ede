"""The GPUs that a recipe names: whether they are here."""

from collections.abc import Sequence

from workbench.engine.hardware.cards import PLANNED
from workbench.engine.hardware.gpus import Gpu, is_named
from workbench.engine.recipe import Recipe

Fault = tuple[str, str, str]


def gpu_faults(recipe: Recipe, gpus: Sequence[Gpu]) -> list[Fault]:
    """What is wrong with a recipe's `hardware.gpus`, as (field, sentence, hint). `gpus` are those of this machine, or
    cards that are planned for instead: they have no names of this machine's."""
    named = recipe.hardware.gpus
    if recipe.hardware.use_cpu or any(gpu.uuid.startswith(PLANNED) for gpu in gpus):
        return []
    missing = [name for name in named if not any(is_named(gpu.index, gpu.uuid, [name]) for gpu in gpus)]
    if not missing:
        return []
    there = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in gpus)
    hint = f"There are: {there}." if gpus else "Leave hardware.gpus out, and it trains on the CPU."
    which = " and ".join(f"GPU {name}" for name in missing)
    return [("hardware.gpus", f"This machine has no {which}.", hint)]
