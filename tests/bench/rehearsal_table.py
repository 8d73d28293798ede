"""Estimate against rehearsal, by objective or by recipe: python -m tests.bench.rehearsal_table [MODEL…]

Without a model: the shipped recipes. Prints what differs by more than 5 % with both sides' components.
"""

import sys
from collections.abc import Iterator

from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import WorkbenchError
from workbench.engine.objectives import OBJECTIVES
from workbench.engine.paths import recipes_dir
from workbench.engine.planning import estimate_recipe
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import load_recipe
from workbench.engine.tuning import TUNINGS
from workbench.worker.rehearsal.rehearse import rehearse_recipe

MIB = 1024**2
NOTABLE = 0.05


def recipes(models: list[str]) -> Iterator[tuple[str, Recipe]]:
    """Titles and recipes: every objective and tuning of the models, or the shipped ones."""
    if not models:
        for path in sorted(recipes_dir().rglob("*.yaml")):
            yield str(path.relative_to(recipes_dir())), load_recipe(path)
    for model in models:
        for objective in OBJECTIVES:
            for tuning in TUNINGS:
                yield f"{model} {objective} {tuning}", Recipe.model_validate(
                    {"model": model, "dataset": "glossary", "objective": objective, "tuning": tuning}, strict=False)


def line(title: str, recipe: Recipe) -> str:
    """One row of the table, and the components where the two disagree."""
    try:
        found = rehearse_recipe(recipe, resolve_model(recipe.model).config, lambda words, share: None)
    except WorkbenchError as error:
        return f"{title:<44} no rehearsal: {error.message}"
    row = f"{title:<44} {found['peak_bytes'] / MIB:>9,.0f}"
    try:
        estimate = estimate_recipe(recipe, None)
    except WorkbenchError as error:
        return f"{row} {'–':>9}         {found['peak_moment']} · {error.message}"
    difference = estimate.peak_bytes / found["peak_bytes"] - 1
    row += f" {estimate.peak_bytes / MIB:>9,.0f} {difference:>+7.1%} {found['peak_moment']} | {estimate.peak_moment}"
    if abs(difference) > NOTABLE:
        for side, parts in (("rehearsal", found["components"]), ("estimate", estimate.components)):
            row += f"\n    {side:<10}" + "  ".join(f"{name} {size / MIB:,.0f}" for name, size in parts.items())
    return row


def main() -> None:
    """Print the table, MiB."""
    print(f"{'':<44} {'rehearsal':>9} {'estimate':>9} {'':>7} moment of the peak (rehearsal | estimate)")
    for title, recipe in recipes(sys.argv[1:]):
        print(line(title, recipe), flush=True)


if __name__ == "__main__":
    main()
