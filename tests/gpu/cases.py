"""What is measured: models by their configuration, cut where whole ones take too long, and settings to train in."""

import importlib.util
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.engine.catalog.models import resolve_model
from workbench.engine.objectives import OBJECTIVES
from workbench.engine.recipe import Recipe

TUNINGS = ("full", "lora", "qlora")
TINY = "tiny-base"


@dataclass(frozen=True)
class Case:
    """One training set-up. `model` is a name of the catalogue, `layers` how many of its blocks are kept (None: all)."""

    model: str
    tuning: str
    objective: str = "sft"
    layers: int | None = None
    batch: int = 4
    length: int = 1024
    accumulation: int = 2
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """A name for tables and files."""
        changed = "".join(f" {name}={value}" for name, value in self.training.items())
        model = self.model.rsplit("/", 1)[-1] + (f"/{self.layers}" if self.layers else "")
        return f"{model} {self.objective} {self.tuning} {self.batch}x{self.length}{changed}"


def cuda_cases() -> list[Case]:
    """For a GPU of 80 GiB or more, the most telling first: a budget may cut the list short."""
    cases = [Case(model, tuning) for model in ("Qwen/Qwen3-0.6B", "meta-llama/Llama-3.2-1B", "google/gemma-3-1b-it")
             for tuning in TUNINGS]
    small = Case("Qwen/Qwen3-0.6B", "lora")
    cases += [replace(small, training={"gradient_checkpointing": False}), replace(small, training={"packing": True}),
              replace(small, batch=1, length=8192), replace(small, batch=16, length=512, accumulation=1),
              replace(small, tuning="full", training={"optim": "adamw_8bit"}),
              replace(small, tuning="full", training={"optim": "adamw_torch"}),
              replace(small, training={"attn_implementation": "eager"}, length=512)]
    cases += [replace(small, objective=objective, tuning=tuning, length=512) for objective in buildable()
              if objective != "sft" for tuning in TUNINGS]
    cases += [Case("meta-llama/Llama-3.1-8B", "qlora", layers=16), Case("meta-llama/Llama-3.1-8B", "lora", layers=16),
              Case("Qwen/Qwen3-30B-A3B", "lora", layers=2), Case("microsoft/phi-2", "lora", layers=16),
              Case("microsoft/Phi-3.5-mini-instruct", "qlora", layers=16), Case("mistralai/Mistral-7B-v0.3", "qlora"),
              Case("google/gemma-2-2b", "lora")]
    return cases


def cpu_cases() -> list[Case]:
    """The same ways through the code on the built-in model: that the suite runs, not what a GPU needs."""
    tiny = Case(TINY, "lora", batch=2, length=48)
    return [*(replace(tiny, tuning=tuning) for tuning in TUNINGS),
            *(replace(tiny, objective=objective) for objective in buildable() if objective != "sft")]


def buildable() -> list[str]:
    """The objectives whose trainer can be built by this version, trainable from a recipe or not yet."""
    return [name for name in OBJECTIVES if importlib.util.find_spec(f"workbench.worker.objectives.{name}") is not None]


def from_recipes(objective: str) -> bool:
    """Whether a recipe trains it, so that the worker's own way is measured."""
    return objective == "sft"


def config_of(case: Case) -> dict[str, Any]:
    """The model's configuration, cut to the case's number of blocks."""
    config = dict(resolve_model(case.model).config)
    if case.layers is not None:
        config["num_hidden_layers"] = min(case.layers, config["num_hidden_layers"])
        if "layer_types" in config:
            config["layer_types"] = config["layer_types"][:config["num_hidden_layers"]]
    return config


def recipe_for(case: Case, model: Path, dataset: Path, steps: int = 4, logging_steps: int = 1) -> Recipe:
    """The case as a recipe on local files. An objective that recipes cannot train yet is set past their check."""
    recipe = Recipe.model_validate({
        "name": "measured", "model": str(model), "dataset": str(dataset), "tuning": case.tuning,
        "training": {"max_steps": steps, "per_device_train_batch_size": case.batch, "save_steps": None,
                     "gradient_accumulation_steps": case.accumulation, "max_length": case.length,
                     "logging_steps": logging_steps, **case.training},
        "samples": {"every_steps": None, "max_new_tokens": 8, "prompts": ["Hello"]},
        # One row again and again, each cut: what is measured is the longest step.
        "data": {"allow": "all"}})
    return recipe.model_copy(update={"objective": case.objective})
