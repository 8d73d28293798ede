"""The commands that predict memory or explain it; `cli.py` registers them. Imports stay inside, for a quick start."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import cli_support as support

if TYPE_CHECKING:
    from workbench.engine.rehearsal import Rehearsal

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE",
                                                     help="Change a setting, e.g. training.learning_rate=1e-4.")]
Force = Annotated[bool, typer.Option("--force", help="Start in spite of what the preflight found, a bad model or "
                                                     "dataset excepted.")]
RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file (YAML).")]


def rehearse(recipe: RecipeArgument, json: Json = False, overrides: Overrides = None) -> None:
    """Run the recipe's trainer without weights or GPU and measure its memory; seconds. See also: workbench plan."""
    from workbench import console
    from workbench.engine.errors import InputError
    from workbench.engine.pipeline import stage_recipes
    from workbench.engine.planning import estimate_recipe
    from workbench.engine.rehearsal import rehearse as run

    loaded = support.load(recipe, overrides or [])
    base_dir = recipe.resolve().parent
    documents = []
    for stage in stage_recipes(loaded) or (loaded,):
        result = run(stage, base_dir, on_progress=_quiet if json or not sys.stderr.isatty() else _show)
        try:
            estimate, why_not = estimate_recipe(stage, base_dir), None
        except InputError as error:
            estimate, why_not = None, error.message
        documents.append(rehearsal_document(result, estimate.peak_bytes if estimate else None, why_not))
        if not json:
            print(console.rehearsal_text(stage.name, documents[-1]))
    if json:
        console.print_json({**documents[0], **({"stages": documents} if loaded.stages else {})})


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


def explain(topic: Annotated[str, typer.Argument(help="lora, qlora, full, quantization, or an objective such as dpo.")],
            model: Annotated[str, typer.Option(help="A model id, a folder, or tiny-base.")] = "tiny-base",
            lora_r: Annotated[int, typer.Option(min=1, help="The rank of the adapters.")] = 16,
            json: Json = False) -> None:
    """Explain a tuning or an objective with a model's own numbers."""
    from workbench import console
    from workbench.engine.explain.topics import explain as explanation_of
    from workbench.engine.explain.topics import subject_of
    from workbench.engine.recipe import DatasetSettings, LoraSettings, Recipe

    recipe = Recipe(model=model, dataset=DatasetSettings(path="-"), lora=LoraSettings(lora_r=lora_r))
    explanation = explanation_of(topic, subject_of(recipe))
    if json:
        console.print_json(explanation.to_json())
    else:
        print(console.explanation_text(explanation))


def estimate(cases: Annotated[Path, typer.Option("--cases", metavar="FILE", help="Cases, one JSON object a line; "
                                                 "- reads standard input.")]) -> None:
    """Estimate many set-ups: one result a line, in order. Exit code 1 when a case was bad, after all were answered."""
    import orjson

    from workbench.engine.errors import InputError
    from workbench.engine.memory.cases_file import results

    bad = False
    try:
        lines = sys.stdin.buffer if str(cases) == "-" else cases.open("rb")
    except OSError as error:
        raise InputError(f"Cannot read the cases in {cases}: {error.strerror or error}.") from None
    with lines:
        for result in results(lines, None if str(cases) == "-" else cases.resolve().parent):
            bad = bad or "error" in result
            sys.stdout.write(orjson.dumps(result).decode() + "\n")
            sys.stdout.flush()
    if bad:
        raise typer.Exit(1)
