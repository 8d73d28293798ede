"""Commands about memory and the arithmetic behind it; `cli.py` registers them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import cli_support as support

if TYPE_CHECKING:
    from workbench.engine.rehearsal import Rehearsal

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE",
                                                     help="Change a setting, e.g. training.max_length=2048.")]
RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file (YAML).")]


def rehearse(recipe: RecipeArgument, json: Json = False, overrides: Overrides = None) -> None:
    """Run the recipe's trainer without weights or GPU and measure its memory; seconds. See also: workbench plan."""
    from workbench import console
    from workbench.engine.errors import InputError
    from workbench.engine.planning import estimate_recipe
    from workbench.engine.rehearsal import rehearse as run

    loaded = support.load(recipe, overrides or [])
    base_dir = recipe.resolve().parent
    result = run(loaded, base_dir, on_progress=_quiet if json or not sys.stderr.isatty() else _show)
    try:
        estimate, why_not = estimate_recipe(loaded, base_dir), None
    except InputError as error:
        estimate, why_not = None, error.message
    document = rehearsal_document(result, estimate.peak_bytes if estimate else None, why_not)
    if json:
        console.print_json(document)
    else:
        print(console.rehearsal_text(loaded.name, document))


def rehearsal_document(result: "Rehearsal", estimate_bytes: int | None, why_not: str | None = None) -> dict[str, Any]:
    """The rehearsal beside the estimate, as `workbench rehearse --json` prints it; `difference` is a share."""
    from dataclasses import asdict

    difference = estimate_bytes / result.peak_bytes - 1 if estimate_bytes is not None else None
    return {**asdict(result), "estimate_bytes": estimate_bytes, "difference": difference, "estimate_problem": why_not}


def _show(words: str, share: float) -> None:
    end = "\r\033[K" if share >= 1 else ""
    print(f"\r\033[K{share:4.0%}  {words}{end}", end="", file=sys.stderr, flush=True)


def _quiet(words: str, share: float) -> None:
    pass
