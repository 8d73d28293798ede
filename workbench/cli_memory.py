"""The commands that predict memory, registered by cli.py. Imports stay inside, for a quick start."""

import sys
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


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
