"""Extrapolated from shallow cuts, a model takes what a trace of all its blocks takes."""

from typing import Any

import pytest

from workbench.engine.recipe import Recipe
from workbench.worker.rehearsal import rehearse as rehearsal
from workbench.worker.rehearsal.model import Blocks, read_config
from workbench.worker.rehearsal.trace import trace

SIZES = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 12, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 4096, "max_position_embeddings": 4096}
DENSE = {"model_type": "qwen3", "tie_word_embeddings": True, **SIZES}
SLIDING = {"model_type": "gemma3_text", "sliding_window": 128, **SIZES,
           "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2}
EXPERTS = {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128,
           "mlp_only_layers": [0, 1, 2, 7], **SIZES}


def recipe(tuning: str, objective: str = "sft", **training: Any) -> Recipe:
    return Recipe.model_validate({
        "model": "any", "dataset": "any", "tuning": tuning, "objective": objective,
        "training": {"max_length": 256, "per_device_train_batch_size": 2, **training}}, strict=False)


def check(config: dict[str, Any], wanted: Recipe) -> None:
    read = read_config(config)
    found = rehearsal.rehearse_recipe(wanted, config, lambda words, share: None)
    assert max(found["depths_traced"]) < read.num_hidden_layers
    full = trace(rehearsal.on_gpu(wanted), read)
    whole = rehearsal.result_of(wanted, full.segments, read.num_hidden_layers)
    assert found["trainable_parameters"] == full.trainable_parameters
    assert found["peak_bytes"] == pytest.approx(whole["peak_bytes"], rel=0.01)
    assert found["static_bytes"] == pytest.approx(whole["static_bytes"], rel=0.001)
    assert found["peak_moment"] == whole["peak_moment"]
    assert sum(found["components"].values()) == found["peak_bytes"]


def test_a_lora_run_of_twelve_layers() -> None:
    check(DENSE, recipe("lora"))


@pytest.mark.slow
@pytest.mark.parametrize(("config", "tuning", "checkpointing"), [
    (DENSE, "full", True), (DENSE, "full", False), (DENSE, "lora", False), (DENSE, "qlora", True),
    (DENSE, "qlora", False), (SLIDING, "lora", True), (EXPERTS, "full", True), (EXPERTS, "lora", False)])
def test_twelve_layers_agree_with_their_full_trace(config: dict[str, Any], tuning: str, checkpointing: bool) -> None:
    check(config, recipe(tuning, gradient_checkpointing=checkpointing, gradient_accumulation_steps=1))


def test_a_cut_keeps_the_first_and_last_blocks_of_each_group() -> None:
    blocks = Blocks("layers", (0, 0, 0, 1, 1, 1, 0, 1, 1))
    assert blocks.counts == (4, 5)
    assert blocks.keep([2, 2]) == (0, 3, 6, 8)
    assert blocks.keep([3, 1]) == (0, 1, 3, 6)
