"""The closed-form estimate against measured GPUs and against its own mechanisms; the comparison of the tunings."""

import time
from dataclasses import replace
from typing import Any

import pytest

from tests.families import small_config
from workbench.engine.catalog.architecture import Architecture, architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.comparison import case_for, compare_tunings
from workbench.engine.memory.estimate import COMPONENTS, estimate_memory
from workbench.engine.memory.terms import CUBLAS_WORKSPACES, CUDA_CONTEXT, OPTIMIZERS

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


# torch's max_memory_allocated and, between steps, memory_allocated, in GiB: fms-acceleration,
# scripts/benchmarks/refs/a100_80gb_granite.csv (stock kernels) and a100_80gb_liger.csv (Llama-3-8B, whose peak is the
# optimizer step).
POWER, LLAMA = "ibm/PowerLM-3b", "meta-llama/Llama-3.1-8B"
MEASURED = [
    (POWER, measured_case("full", 4), 32.722, 19.641),
    (POWER, measured_case("full", 8), 43.827, 19.642),
    (POWER, measured_case("lora", 4), 18.785, 6.690),
    (POWER, measured_case("lora", 8), 30.876, 6.690),
    (POWER, measured_case("qlora", 4), 14.111, 1.994),
    (POWER, measured_case("qlora", 8), 26.202, 1.995),
    (POWER, measured_case("qlora", 4, prepare_for_kbit=True), 16.926, 1.997),
    (POWER, measured_case("qlora", 8, prepare_for_kbit=True), 31.830, 1.997),
    (LLAMA, measured_case("full", 4, mixed_precision="bf16", loss_kernel="liger"), 74.802, 44.888),
    (LLAMA, measured_case("full", 8, mixed_precision="bf16", loss_kernel="liger"), 74.802, 44.888),
]


@pytest.mark.parametrize(("name", "case", "peak", "static"), MEASURED)
def test_measured_runs_are_met_within_one_per_cent(name: str, case: MemoryCase, peak: float, static: float) -> None:
    estimate = estimate_memory(architecture(name), case)
    assert estimate.peak_bytes == pytest.approx(peak * GIB, rel=0.01)
    assert estimate.static_bytes == pytest.approx(static * GIB, rel=0.003)
    assert estimate.low_bytes < peak * GIB < estimate.high_bytes


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
    assert foreach.peak_moment == "optimizer step"
    assert foreach.components["optimizer"] - fused.components["optimizer"] == 2 * model.parameters
    assert fused.static_bytes - none.static_bytes == 4 * model.parameters
    assert none.static_bytes < eight_bit.static_bytes < fused.static_bytes


def test_a_tied_embedding_gets_its_gradient_twice() -> None:
    model = architecture("google/gemma-3-1b-it")
    short = MemoryCase(tuning="full", per_device_train_batch_size=1, max_length=64)
    estimate = estimate_memory(model, short)
    assert estimate.peak_moment == "backward of the embedding"
    assert estimate.components["workspace"] - CUBLAS_WORKSPACES == 2 * model.embedding_parameters
    assert estimate.components["gradients"] == 2 * model.parameters


def test_the_fp32_backward_of_the_final_norm_can_be_the_peak() -> None:
    # 500,000 bytes per token: storages counted in transformers' own Llama, two layers, forward and backward.
    config = resolve_model(LLAMA).config | {"num_hidden_layers": 2, "vocab_size": 1024}
    case = measured_case("full", 8, mixed_precision="bf16", loss_kernel="liger", gradient_checkpointing=False)
    estimate = estimate_memory(architecture_from_config(config), case)
    assert estimate.peak_moment == "backward of the final norm"
    assert estimate.components["activations"] / (8 * 4096) == pytest.approx(500_000, rel=0.001)


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
    assert fsdp.components["weights"] == alone.components["weights"] // 8
    assert fsdp.peak_bytes < alone.peak_bytes / 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "kto"}, "kto"),
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


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_every_known_optimizer_is_one_of_transformers(optim: str) -> None:
    from transformers.training_args import OptimizerNames

    assert optim in {name.value for name in OptimizerNames}


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
    comparison = compare_tunings(architecture("Qwen/Qwen3-0.6B"), MemoryCase(objective="rlhf"), [gpu(GIB)])
    assert comparison["full"].estimate is None
    assert comparison["full"].problem is not None
    assert "rlhf" in comparison["full"].problem


def test_only_qlora_quantises() -> None:
    eight_bit = MemoryCase(tuning="qlora", quantization="int8", prepare_for_kbit=True)
    assert case_for(eight_bit, "qlora") == eight_bit
    assert case_for(eight_bit, "lora") == MemoryCase(tuning="lora")
    assert case_for(MemoryCase(), "qlora").quantization == "nf4-double"


def test_three_tunings_take_less_than_five_milliseconds() -> None:
    model, case, gpus = architecture("Qwen/Qwen3-30B-A3B"), MemoryCase(), [gpu(80 * GIB)]
    durations = []
    for _ in range(20):
        start = time.perf_counter()
        compare_tunings(model, case, gpus)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.005
