"""The estimate against the libraries themselves: storages counted while the real model runs on fake tensors."""

from typing import Any

import pytest
import torch

from tests.bench.families_table import BATCH, LENGTH, attention_of, middle_config
from tests.tracing import build, traced_peak
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.memory.estimate import MemoryCase, estimate_memory
from workbench.engine.memory.terms import CUBLAS_WORKSPACES

LAYERS = 4
NAMES = ("Qwen/Qwen3-0.6B", "meta-llama/Llama-3.2-1B", "google/gemma-3-1b-it", "microsoft/phi-1_5")

# One of each kind of norm, residual, attention, MLP and mixture; the table of all is tests/bench/families_table.py.
FAMILIES = ("gemma2", "olmo2", "cohere", "gpt2", "gpt_neox", "phi3", "mixtral", "deepseek_v3", "gpt_oss",
            "granitemoeshared", "nemotron", "apertus", "bloom", "glm4")  # fmt: skip


def predicted(config: dict[str, Any], tuning: Any, checkpointing: bool, batch: int, attention: str) -> int:
    case = MemoryCase(
        tuning=tuning, per_device_train_batch_size=batch, max_length=LENGTH, gradient_checkpointing=checkpointing,
        optim="sgd", attn_implementation="eager" if attention == "eager" else "flash_attention_2",
    )  # fmt: skip
    return estimate_memory(architecture_from_config(config), case).peak_bytes - CUBLAS_WORKSPACES


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward_are_met_within_four_per_cent(name: str, tuning: Any, checkpointing: bool) -> None:
    config = resolve_model(name).config | {"num_hidden_layers": LAYERS}
    model = build(config, tuning, "sdpa")
    traced = traced_peak(model, 8, LENGTH, checkpointing, adapters=tuning == "lora")
    assert predicted(config, tuning, checkpointing, 8, "sdpa") == pytest.approx(traced, rel=0.04)


@pytest.mark.parametrize(("tuning", "checkpointing"), [("full", False), ("lora", True)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_each_kind_is_met_within_five_per_cent(family: str, tuning: Any, checkpointing: bool) -> None:
    config, attention = middle_config(family), attention_of(family)
    model = build(config, tuning, attention)
    traced = traced_peak(model, BATCH, LENGTH, checkpointing, adapters=tuning == "lora")
    assert predicted(config, tuning, checkpointing, BATCH, attention) == pytest.approx(traced, rel=0.05)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_fp32_weights_and_their_copies_under_autocast_are_met_too(tuning: Any, checkpointing: bool) -> None:
    config = resolve_model("Qwen/Qwen3-8B").config | {"num_hidden_layers": LAYERS}
    case = MemoryCase(
        tuning=tuning, per_device_train_batch_size=8, max_length=LENGTH, gradient_checkpointing=checkpointing,
        optim="sgd", attn_implementation="flash_attention_2", dtype="float32",
    )
    found = estimate_memory(architecture_from_config(config), case).peak_bytes - CUBLAS_WORKSPACES
    model = build(config, tuning, "sdpa", torch.float32)
    assert found == pytest.approx(traced_peak(model, 8, LENGTH, checkpointing, adapters=tuning == "lora"), rel=0.04)
