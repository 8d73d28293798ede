"""The estimate against the rehearsal: the closed form describes what the recipe's own trainer allocates."""

from typing import Any

import pytest

from tests.bench.families_table import compared, middle_config, recipe_of
from workbench.engine.catalog.models import resolve_model
from workbench.engine.recipe import Recipe

pytestmark = pytest.mark.slow

DEPTH = 4

# One of each kind of norm, residual, attention, MLP and mixture; the table of all is tests/bench/families_table.py.
FAMILIES = ("gemma2", "olmo2", "cohere", "gpt2", "gpt_neox", "phi3", "mixtral", "qwen2_moe", "deepseek_v3", "gpt_oss",
            "nemotron", "apertus", "bloom", "xglm", "opt", "gpt_bigcode", "falcon", "ernie4_5_moe")  # fmt: skip


def check(config: dict[str, Any], recipe: Recipe, within: float) -> None:
    estimate, rehearsed = compared(config, recipe)
    assert isinstance(estimate, int), estimate
    assert isinstance(rehearsed, int), rehearsed
    assert estimate == pytest.approx(rehearsed, rel=within)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_each_kind(family: str) -> None:
    config = middle_config(family, DEPTH)
    check(config, recipe_of(family, "qlora"), 0.05)
    if family in ("mixtral", "xglm", "gpt_bigcode"):
        check(config, recipe_of(family, "full", gradient_checkpointing=False), 0.05)
    if family == "nemotron":
        check(config, recipe_of(family, "qlora", gradient_checkpointing=False), 0.05)


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("objective", ["sft", "dpo", "orpo", "kto", "reward", "rlhf"])
def test_every_kind_of_objective(objective: str, tuning: str) -> None:
    config = resolve_model("Qwen/Qwen3-0.6B").config | {"num_hidden_layers": 2}
    recipe = Recipe.model_validate({"model": "Qwen/Qwen3-0.6B", "dataset": "glossary", "objective": objective,
                                    "tuning": tuning}, strict=False)
    check(config, recipe, 0.03)


@pytest.mark.parametrize(("tuning", "training"), [
    ("full", {"dtype": "float32"}), ("lora", {"attn_implementation": "flash_attention_2"}),
    ("lora", {"attn_implementation": "eager", "gradient_checkpointing": False}), ("lora", {"packing": True}),
    ("full", {"optim": "adamw_torch", "gradient_accumulation_steps": 1}), ("full", {"optim": "paged_adamw_8bit"})])
def test_settings(tuning: str, training: dict[str, Any]) -> None:
    config = resolve_model("meta-llama/Llama-3.2-1B").config | {"num_hidden_layers": 2}
    recipe = Recipe.model_validate({"model": "meta-llama/Llama-3.2-1B", "dataset": "glossary", "tuning": tuning,
                                    "training": training}, strict=False)
    check(config, recipe, 0.03)


@pytest.mark.parametrize(("bits", "dropout"), [(4, 0.1), (8, 0.0)])
def test_quantised_bases(bits: int, dropout: float) -> None:
    config = resolve_model("meta-llama/Llama-3.2-1B").config | {"num_hidden_layers": 2}
    recipe = Recipe.model_validate({"model": "meta-llama/Llama-3.2-1B", "dataset": "glossary", "tuning": "qlora",
                                    "quantization": {"bits": bits}, "lora": {"lora_dropout": dropout}}, strict=False)
    check(config, recipe, 0.03)
