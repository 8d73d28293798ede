"""The closed-form estimate's mechanisms, one by one, and the comparison of the tunings."""

from dataclasses import replace
from typing import Any

import pytest

from tests.bench.families_table import middle_config, recipe_of
from tests.families import small_config
from workbench.engine.catalog.architecture import Architecture, architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.memory.activations import block_activations, head_number
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.comparison import case_for, compare_tunings
from workbench.engine.memory.estimate import COMPONENTS, Estimator, estimate_memory
from workbench.engine.memory.lines import ModelLines
from workbench.engine.memory.terms import CUBLAS_WORKSPACES, CUDA_CONTEXT
from workbench.engine.planning import memory_case

GIB = 1024**3
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def architecture(name: str) -> Architecture:
    return architecture_from_config(resolve_model(name).config)


def measured_case(tuning: Any, batch: int, **changes: Any) -> MemoryCase:
    """The settings that all rows of fms-acceleration's A100 benchmark share."""
    shared = MemoryCase(
        tuning=tuning, target_modules=ATTENTION, per_device_train_batch_size=batch, max_length=4096,
        lora_dropout=0.0 if tuning == "full" else 0.1, optim="adamw_torch", attn_implementation="flash_attention_2",
        loss_kernel="full_logits", mixed_precision="bf16" if tuning == "qlora" else "no",
    )
    return replace(shared, **changes)


LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.mark.parametrize("tuning", ["full", "lora", "qlora"])
@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "google/gemma-2-2b", "microsoft/phi-2", "Qwen/Qwen3-30B-A3B"])
def test_components_sum_to_the_peak(name: str, tuning: Any) -> None:
    estimate = estimate_memory(architecture(name), MemoryCase(tuning=tuning))
    assert tuple(estimate.components) == COMPONENTS
    assert sum(estimate.components.values()) == estimate.peak_bytes
    assert 0 < estimate.static_bytes < estimate.low_bytes < estimate.peak_bytes < estimate.high_bytes


def peak(name: str = "Qwen/Qwen3-8B", **changes: Any) -> int:
    return estimate_memory(architecture(name), replace(MemoryCase(), **changes)).peak_bytes


def test_more_work_needs_more_memory() -> None:
    assert peak(per_device_train_batch_size=8) > peak(per_device_train_batch_size=4)
    assert peak(max_length=2048) > peak(max_length=1024)
    assert peak(gradient_checkpointing=False) > peak(gradient_checkpointing=True)
    assert peak(loss_kernel="full_logits") > peak(loss_kernel="auto")
    assert peak(dtype="float32") > peak(dtype="bfloat16")
    assert peak(lora_dropout=0.1) > peak(lora_dropout=0.0)
    assert peak(attn_implementation="eager", max_length=4096) > peak(attn_implementation="sdpa", max_length=4096)
    assert peak(objective="dpo", per_device_train_batch_size=2) == peak(per_device_train_batch_size=4)


def test_auto_is_trls_fused_path() -> None:
    assert peak(loss_kernel="auto") == peak(loss_kernel="fused")


def test_optimizers_differ_by_what_they_hold() -> None:
    model = architecture("Qwen/Qwen3-8B")
    full = MemoryCase(tuning="full", per_device_train_batch_size=1)
    fused, foreach, eight_bit, none = (
        estimate_memory(model, replace(full, optim=optim))
        for optim in ("adamw_torch_fused", "adamw_torch", "adamw_bnb_8bit", "sgd")
    )
    assert foreach.peak_moment == "the optimizer step"
    assert foreach.components["optimizer"] - fused.components["optimizer"] == 2 * model.parameters
    assert fused.static_bytes - none.static_bytes == 4 * model.parameters
    assert none.static_bytes < eight_bit.static_bytes < fused.static_bytes


def test_a_tied_embedding_gets_its_gradient_twice() -> None:
    model = architecture("google/gemma-3-1b-it")
    short = MemoryCase(tuning="full", per_device_train_batch_size=1, max_length=64)
    estimate = estimate_memory(model, short)
    assert estimate.peak_moment == "the backward pass of the embedding"
    assert estimate.components["workspace"] - CUBLAS_WORKSPACES == 2 * model.embedding_parameters
    assert estimate.components["gradients"] == 2 * model.parameters


def test_the_fp32_backward_of_the_final_norm_can_be_the_peak() -> None:
    # 500,000 bytes per token: storages counted in transformers' own Llama, two layers, forward and backward.
    config = resolve_model(LLAMA).config | {"num_hidden_layers": 2, "vocab_size": 1024}
    case = measured_case("full", 8, mixed_precision="bf16", loss_kernel="liger",
                         gradient_checkpointing=False)
    estimate = estimate_memory(architecture_from_config(config), case)
    assert estimate.peak_moment == "the backward pass of the final norm"
    assert estimate.components["activations"] / (8 * 4096) == pytest.approx(500_000, rel=0.001)


@pytest.mark.parametrize(("family", "tuning", "checkpointing", "saved", "peak"), [
    # One key head: a view to SDPA, copied for every query head where autocast casts it.
    ("gpt_bigcode", "full", False, 54_643, None), ("gpt_bigcode", "qlora", False, 73_118, None),
    # A norm that casts to 16 bits, and layers that bitsandbytes leaves alone.
    ("nemotron", "qlora", False, 55_757, None), ("falcon", "qlora", False, 50_573, None),
    # Adapters' backward in fp32, one behind the other; xIELU's; experts run again to where all that is kept is there.
    ("opt", "qlora", True, None, 91_118), ("apertus", "qlora", True, None, 162_384),
    ("ernie4_5_moe", "qlora", True, None, 95_059), ("gpt_oss", "qlora", True, None, 242_208),
])
def test_a_block_takes_what_the_rehearsed_one_was_seen_to(family: str, tuning: str, checkpointing: bool,
                                                          saved: int | None, peak: int | None) -> None:
    # Bytes per token of a block's storages in a rehearsal of the families' table, 4 rows of 1024 tokens.
    case = memory_case(recipe_of(family, tuning, gradient_checkpointing=checkpointing))
    model = architecture_from_config(middle_config(family))
    block = block_activations(replace(Estimator(model, case)._setting(2), keys=1024), model.blocks[0])
    assert saved is None or block.saved == pytest.approx(saved, rel=0.006)
    assert peak is None or max(alive for alive, _ in block.levels) == pytest.approx(peak, rel=0.006)


@pytest.mark.parametrize(("family", "number"), [("llama", 2), ("opt", 4), ("nemotron", 2), ("cohere", 2)])
def test_layer_norm_gives_the_head_fp32_under_autocast(family: str, number: int) -> None:
    model = architecture_from_config(middle_config(family))
    assert head_number(Estimator(model, MemoryCase(tuning="full"))._setting(1)) == number


@pytest.mark.parametrize(("family", "tuning", "held"), [
    # Seen before the first rehearsed block: the norm's fp32 input, its output (LayerNorm's is fp32), and with adapters
    # the embedding's own.
    ("bloom", "full", 4 + 4), ("bloom", "lora", 4 + 4 + 2), ("nanochat", "full", 4 + 2),
    ("nanochat", "lora", 4 + 2 + 2),
])
def test_what_a_norm_behind_the_embedding_keeps_is_held_while_blocks_are_recomputed(family: str, tuning: Any,
                                                                                    held: int) -> None:
    model = architecture_from_config(middle_config(family))
    estimator = Estimator(model, MemoryCase(tuning=tuning))
    others = estimator.precision.stream * (model.num_hidden_layers - 1)
    assert estimator._activations_of(4, 1024).kept / model.hidden_size == pytest.approx(others + held, abs=0.01)


@pytest.mark.parametrize("changes", [
    {}, {"packing": True}, {"gradient_checkpointing": False}, {"lora_dropout": 0.1}, {"attn_implementation": "eager"},
    {"attn_implementation": "eager", "tuning": "full", "gradient_checkpointing": False},
])
@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "google/gemma-2-2b", "microsoft/phi-2", "Qwen/Qwen3-30B-A3B"])
def test_lines_over_the_keys_meet_the_tape_at_any_length(name: str, changes: dict[str, Any]) -> None:
    case = replace(MemoryCase(), **changes)
    estimator = Estimator(architecture(name), case)
    for batch, length in ((1, 1), (1, 777), (3, 777), (4, 5000), (2, 2**20)):
        keys = batch * length if case.packing else length
        counted = ModelLines(replace(estimator._setting(min(batch, 2)), keys=keys)).at(1, batch * length)
        assert estimator._activations_of(batch, length) == counted


def test_attention_without_a_kernel_scores_packed_rows_as_one_text() -> None:
    # trl packs without padding: a micro-batch is one row, and eager attention has a score for each pair of its tokens.
    case = MemoryCase(attn_implementation="eager", per_device_train_batch_size=8, max_length=512)
    model = architecture("Qwen/Qwen3-0.6B")
    one_long = estimate_memory(model, replace(case, per_device_train_batch_size=1, max_length=8 * 512))
    assert estimate_memory(model, replace(case, packing=True)).peak_bytes == one_long.peak_bytes


def test_accumulated_gradients_stay_between_steps() -> None:
    model = architecture("Qwen/Qwen3-0.6B")
    once = estimate_memory(model, MemoryCase(tuning="full"))
    often = estimate_memory(model, MemoryCase(tuning="full", gradient_accumulation_steps=4))
    assert often.static_bytes - once.static_bytes == 2 * model.parameters


def test_adapters_of_a_quantised_base_are_bf16_under_trl_and_fp32_before() -> None:
    model = architecture("Qwen/Qwen3-8B")
    today = estimate_memory(model, MemoryCase(tuning="qlora"))
    before = estimate_memory(model, MemoryCase(tuning="qlora", loss_kernel="full_logits"))
    assert before.static_bytes - today.static_bytes == 6 * today.trainable_parameters


def test_fsdp_divides_the_states_and_ddp_adds_buckets() -> None:
    model = architecture("Qwen/Qwen3-8B")
    alone = estimate_memory(model, MemoryCase(tuning="full"))
    ddp = estimate_memory(model, MemoryCase(tuning="full", sharding="ddp", num_processes=8))
    fsdp = estimate_memory(model, MemoryCase(tuning="full", sharding="fsdp", num_processes=8))
    assert ddp.peak_bytes - alone.peak_bytes == 2 * model.parameters
    # fp32 masters, divided by eight; gradients and both moments likewise.
    assert fsdp.components["weights"] == 4 * model.parameters // 8
    assert fsdp.static_bytes - CUBLAS_WORKSPACES == pytest.approx(12 * model.parameters / 8, abs=2)
    assert fsdp.peak_bytes < alone.peak_bytes / 2
    plain = replace(MemoryCase(tuning="full", sharding="fsdp", num_processes=8), mixed_precision="no")
    assert estimate_memory(model, plain).components["weights"] == alone.components["weights"] // 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "ppo"}, "ppo"),
        ({"optim": "adamw_apex_fused"}, "adamw_apex_fused"),
        ({"quantization": "gptq"}, "quantization"),
        ({"max_length": 0}, "max_length"),
        ({"tuning": "full", "quantization": "nf4"}, "full"),
        ({"target_modules": ("nothing",)}, "nothing"),
    ],
)
def test_what_is_not_described_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        estimate_memory(architecture("Qwen/Qwen3-0.6B"), replace(MemoryCase(), **changes))


@pytest.mark.parametrize("family", ["gemma3n_text", "qwen3_next", "llama4_text"])
def test_a_family_that_is_only_counted_says_so_and_offers_the_rehearsal(family: str) -> None:
    counted = architecture_from_config(small_config(family))
    assert counted.parameters > 0
    with pytest.raises(InputError, match=family) as caught:
        estimate_memory(counted, MemoryCase(tuning="full"))
    assert caught.value.hint is not None
    assert "rehearse" in caught.value.hint


def gpu(free: int | None) -> Gpu:
    return Gpu(0, "GPU-0", "A100", free, free, 0, 0, 40, 60.0)


def test_a_gpu_is_judged_on_peak_context_and_band() -> None:
    model = architecture("Qwen/Qwen3-8B")
    lora = estimate_memory(model, MemoryCase())
    for free, fit in (
        (lora.high_bytes + CUDA_CONTEXT, "fits"),
        (lora.high_bytes + CUDA_CONTEXT - 1, "tight"),
        (lora.peak_bytes + CUDA_CONTEXT, "tight"),
        (lora.peak_bytes + CUDA_CONTEXT - 1, "no"),
        (None, "unknown"),
    ):
        column = compare_tunings(model, MemoryCase(), [gpu(free)])["lora"]
        assert column.estimate == lora
        assert (column.fit, column.devices[0].device, column.devices[0].free_bytes) == (fit, "gpu", free)


def test_the_best_of_several_gpus_counts() -> None:
    comparison = compare_tunings(architecture("Qwen/Qwen3-8B"), MemoryCase(), [gpu(8 * GIB), gpu(40 * GIB)])
    assert [column.tuning for column in comparison.tunings] == ["full", "lora", "qlora"]
    assert [column.fit for column in comparison.tunings] == ["no", "fits", "fits"]
    assert [device.fit for device in comparison["lora"].devices] == ["no", "fits"]


def test_without_a_gpu_the_host_is_judged_and_labelled() -> None:
    comparison = compare_tunings(architecture("Qwen/Qwen3-0.6B"), MemoryCase(), [], host_available_bytes=6 * GIB)
    for column in comparison.tunings:
        assert column.fit == "unknown"
        assert [device.device for device in column.devices] == ["host"]
    assert comparison["lora"].devices[0].fit == "fits"
    unseen = compare_tunings(architecture("Qwen/Qwen3-0.6B"), MemoryCase(), [])
    assert unseen["lora"].devices[0].fit == "unknown"


def test_a_column_that_cannot_be_estimated_says_why() -> None:
    comparison = compare_tunings(architecture("Qwen/Qwen3-0.6B"), MemoryCase(optim="lomo"), [gpu(GIB)])
    assert comparison["full"].estimate is None
    assert comparison["full"].problem is not None
    assert "lomo" in comparison["full"].problem


def test_only_qlora_quantises() -> None:
    eight_bit = MemoryCase(tuning="qlora", quantization="int8", prepare_for_kbit=True)
    assert case_for(eight_bit, "qlora") == eight_bit
    assert case_for(eight_bit, "lora") == MemoryCase(tuning="lora")
    assert case_for(MemoryCase(), "qlora").quantization == "nf4-double"


def test_capped_logits_keep_their_tanh() -> None:
    config = resolve_model("google/gemma-2-2b").config
    case = MemoryCase(loss_kernel="full_logits", per_device_train_batch_size=4, max_length=2048)
    capped = estimate_memory(architecture_from_config(config), case)
    plain = estimate_memory(architecture_from_config({**config, "final_logit_softcapping": None}), case)
    assert capped.peak_moment == plain.peak_moment == "the loss"
    assert capped.components["logits"] - plain.components["logits"] == 2 * 4 * 2048 * config["vocab_size"]
