"""Commands about memory and the arithmetic behind it; `cli.py` registers them."""

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
