"""What fits: largest batch, longest rows, suggestions, and cards that are not here."""

from dataclasses import replace
from typing import Any

import pytest

from workbench.engine.catalog.architecture import Architecture, architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.hardware.cards import CARDS, free_when_idle, gpu_named
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.comparison import compare_tunings
from workbench.engine.memory.estimate import estimate_memory
from workbench.engine.memory.fitting import MOST_TOKENS, largest_batch, longest_max_length
from workbench.engine.memory.suggestions import suggest
from workbench.engine.memory.terms import CUDA_CONTEXT

GIB = 1024**3
SETTINGS: list[dict[str, Any]] = [
    {}, {"packing": True}, {"attn_implementation": "eager"}, {"attn_implementation": "flash_attention_2"},
    {"tuning": "full"}, {"tuning": "qlora"}, {"loss_kernel": "liger"}, {"loss_kernel": "full_logits"},
    {"gradient_checkpointing": False}, {"objective": "dpo"}, {"objective": "rlhf"},
]


def architecture(name: str) -> Architecture:
    return architecture_from_config(resolve_model(name).config)


@pytest.mark.parametrize("gib", [12, 24, 79, 141])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_one_row_or_token_more_would_not_fit(settings: dict[str, Any], gib: int) -> None:
    model, case = architecture("Qwen/Qwen3-1.7B"), replace(MemoryCase(), **settings)

    def high(**changes: int) -> int:
        return estimate_memory(model, replace(case, **changes)).high_bytes

    batch, length = largest_batch(model, case, gib * GIB), longest_max_length(model, case, gib * GIB)
    if batch is None:
        assert high(per_device_train_batch_size=1) > gib * GIB
    else:
        assert high(per_device_train_batch_size=batch) <= gib * GIB < high(per_device_train_batch_size=batch + 1)
    if length is None:
        assert high(max_length=1) > gib * GIB
    else:
        assert high(max_length=length) <= gib * GIB
        assert length == MOST_TOKENS or high(max_length=length + 1) > gib * GIB


def test_rows_are_no_longer_than_the_model_allows() -> None:
    model, budget = architecture("Qwen/Qwen3-0.6B"), 141 * GIB
    assert longest_max_length(model, MemoryCase(), budget, limit=4096) == 4096
    assert longest_max_length(model, MemoryCase(), budget, limit=1) == 1
    assert longest_max_length(model, MemoryCase(), 1000) is None


def test_each_device_says_what_fits_beside_its_context() -> None:
    model, card = architecture("Qwen/Qwen3-8B"), gpu_named("RTX 4090")
    column = compare_tunings(model, MemoryCase(), [card, gpu_named("T4", 1)])["lora"]
    assert card.free_bytes is not None
    budget = card.free_bytes - CUDA_CONTEXT
    assert column.devices[0].largest_batch == largest_batch(model, MemoryCase(), budget)
    assert column.devices[0].longest_max_length == longest_max_length(model, MemoryCase(), budget)
    assert column.devices[1].largest_batch is None


def fitting(case: MemoryCase, gib: float, name: str = "meta-llama/Llama-3.1-8B") -> list[tuple[str, ...]]:
    """The keys that each suggestion changes, for those that fit."""
    found = suggest(architecture(name), case, gib * GIB)
    return [tuple(key for key, _ in suggestion.changes) for suggestion in found if suggestion.fit == "fits"]


BATCH = ("training.per_device_train_batch_size", "training.gradient_accumulation_steps")


def test_what_fits_needs_no_suggestion() -> None:
    assert suggest(architecture("Qwen/Qwen3-0.6B"), MemoryCase(), 80 * GIB) == ()


def test_suggestions_come_in_the_order_of_their_cost() -> None:
    case = MemoryCase(max_length=4096, gradient_accumulation_steps=4, gradient_checkpointing=False)
    assert fitting(case, 78) == [("training.gradient_checkpointing",), BATCH, ("training.max_length",)]
    assert fitting(replace(case, gradient_checkpointing=True), 23) == [BATCH, ("training.max_length",), ("tuning",)]
    assert fitting(MemoryCase(tuning="full", optim="adamw_torch"), 70)[0] == ("training.optim",)
    assert fitting(MemoryCase(loss_kernel="full_logits", max_length=16384), 40)[0] == (*BATCH, "loss_kernel")
    assert ("loss_kernel",) in fitting(MemoryCase(loss_kernel="full_logits", max_length=2048), 28)


def test_accumulation_keeps_the_effective_batch() -> None:
    model = architecture("meta-llama/Llama-3.1-8B")
    case = MemoryCase(per_device_train_batch_size=6, gradient_accumulation_steps=2, max_length=4096)
    changes = dict(suggest(model, case, 23 * GIB)[0].changes)
    assert changes == {BATCH[0]: 2, BATCH[1]: 6}


def test_a_suggestion_gives_the_peak_of_the_changed_case() -> None:
    model, case = architecture("meta-llama/Llama-3.1-8B"), MemoryCase(tuning="full", max_length=4096)
    for suggestion in suggest(model, case, 16 * GIB):
        values = {key.rpartition(".")[2]: value for key, value in suggestion.changes}
        if values.get("tuning") == "qlora":
            values["quantization"] = "nf4-double"
        assert estimate_memory(model, replace(case, **values)).peak_bytes == suggestion.peak_bytes
    assert suggestion.fit == "fits"
    assert "QLoRA" in suggestion.words


def test_rows_are_not_cut_to_a_stump() -> None:
    found = suggest(architecture("meta-llama/Llama-3.1-8B"), MemoryCase(max_length=16384), 17 * GIB)
    lengths = [value for suggestion in found for key, value in suggestion.changes if key == "training.max_length"]
    assert all(length >= 4096 for length in lengths)


@pytest.mark.parametrize(("name", "card"), [
    ("H100-80GB", "H100-80GB"), ("h100 80gb", "H100-80GB"), ("NVIDIA H100 80GB HBM3", "H100-80GB"),
    ("4090", "RTX-4090"), ("NVIDIA GeForce RTX 3060", "RTX-3060"), ("RTX A6000", "RTX-A6000"), ("t4", "T4"),
    ("NVIDIA A100-SXM4-80GB", "A100-80GB"), ("l40s", "L40S"),
])
def test_a_card_is_found_however_it_is_written(name: str, card: str) -> None:
    gpu = gpu_named(name)
    assert (gpu.name, gpu.total_bytes) == (card, CARDS[card] * 1024**2)
    assert gpu.free_bytes == free_when_idle(CARDS[card] * 1024**2)
    assert 0.96 < gpu.free_bytes / CARDS[card] / 1024**2 < 0.995


@pytest.mark.parametrize(("name", "words"), [
    ("H100", "H100-80GB"), ("a100", "A100-40GB"), ("H10", "H100-80GB"), ("RTX 4900", "RTX-4090"), ("", "Known: ")])
def test_an_unknown_card_names_the_nearest(name: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        gpu_named(name)
    assert words in (error.value.hint or "")


def test_every_card_is_found_by_its_own_name() -> None:
    assert all(gpu_named(name).name == name for name in CARDS)
