"""The rehearsal: fake tensors take what real ones take, and what stands for a GPU still exists in the libraries."""

import pkgutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.families import meta_model, small_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.recipe import QuantizationSettings, Recipe
from workbench.worker.loading import bitsandbytes_config
from workbench.worker.rehearsal.cuda import FLASH, MASKING, PATCHES
from workbench.worker.rehearsal.kernels import attention, kernel_workspaces
from workbench.worker.rehearsal.model import build_on_meta, fill, read_config
from workbench.worker.rehearsal.rehearse import rehearse_recipe
from workbench.worker.rehearsal.storages import StorageTracker
from workbench.worker.rehearsal.trace import Platform, trace

OBJECTIVES = ("sft", "cpt", "rt", "dpo", "orpo", "kto", "reward", "rlhf")


def recipe(objective: str, tuning: str, **training: Any) -> Recipe:
    return Recipe.model_validate({
        "model": "tiny-base", "dataset": "glossary", "objective": objective, "tuning": tuning,
        "training": {"dtype": "float32", "bf16": False, "max_length": 32, "per_device_train_batch_size": 2,
                     "gradient_accumulation_steps": 2, "assistant_only_loss": False, **training}}, strict=False)


def check_against_real_tensors(wanted: Recipe) -> None:
    """Every moment of two real steps of the real trainer on the CPU, to the byte."""
    config = read_config(resolve_model("tiny-base").config)
    fake = trace(wanted, config, (0, 1), Platform(fake=True, cuda=False, padded=False))
    real = trace(wanted, config, (0, 1), Platform(fake=False, cuda=False))
    assert len(real.segments) > 10
    assert fake == real


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_fake_tensors_take_what_a_real_step_takes(tuning: str) -> None:
    check_against_real_tensors(recipe("sft", tuning))


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES[2:])
def test_every_objective_takes_what_a_real_step_takes(objective: str) -> None:
    check_against_real_tensors(recipe(objective, "lora"))


@pytest.mark.slow
@pytest.mark.parametrize(("tuning", "training"), [
    ("qlora", {}), ("full", {"gradient_checkpointing": False}), ("lora", {"optim": "adamw_torch"}),
    ("lora", {"attn_implementation": "eager"})])
def test_every_setting_takes_what_a_real_step_takes(tuning: str, training: dict[str, Any]) -> None:
    check_against_real_tensors(recipe("dpo", tuning, **training))


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["full", "lora", "qlora"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_and_tuning_is_rehearsed_as_on_a_gpu(objective: str, tuning: str) -> None:
    wanted = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", "objective": objective,
                                    "tuning": tuning, "training": {"max_length": 64}}, strict=False)
    config = resolve_model("tiny-base").config | {"num_hidden_layers": 8}
    found = rehearse_recipe(wanted, config, lambda words, share: None)
    assert found["depths_traced"] == [2, 4]
    assert found["static_bytes"] < found["peak_bytes"] == sum(found["components"].values())
    assert (found["trainable_parameters"] == found["parameters"]) == (tuning == "full")


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, name, _ in PATCHES]
                         + [(MASKING, "is_tracing"), (MASKING, "fast_all"),
                            (FLASH, "_pad_input"), (FLASH, "_unpad_input"),
                            ("torch.autograd", "_engine_run_backward")])
def test_what_stands_for_a_gpu_is_still_there(module: str, name: str) -> None:
    assert callable(getattr(pkgutil.resolve_name(module), name)), f"{module}.{name} moved: adapt rehearsal/cuda.py"


def test_the_kernels_whose_workspace_is_counted_exist() -> None:
    assert all(isinstance(kernel, torch._ops.OpOverload) for kernel in kernel_workspaces())


def test_attention_keeps_no_scores_and_counts_the_backward_workspace() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    rows, heads, length, width = 2, 4, 512, 64
    with FakeTensorMode():
        query, key, value = (torch.empty(rows, count, length, width, dtype=torch.bfloat16, requires_grad=True)
                             for count in (heads, 2, 2))
        with StorageTracker(fake=True, workspaces=kernel_workspaces()) as tracker:
            tracker.begin("forward")
            out = attention(query, key, value, is_causal=True, enable_gqa=True)
            tracker.begin("backward")
            out.sum().backward()
            tracker.finish()
    one = rows * heads * length * width * 2
    forward, backward = tracker.segments
    assert one < sum(forward.peak) < 1.2 * one  # the output and a number per head and token
    assert backward.peak[-1] == rows * heads * length * 4 * (width + 1) + one * 2  # fp32 sums; two gradients per head


def test_storages_are_counted_once_in_blocks_and_forgotten() -> None:
    with StorageTracker(fake=False) as tracker:
        tracker.begin("one")
        first = torch.empty(100)
        view = first.view(10, 10)
        second = torch.empty(1000)
        del second
        tracker.finish()
        assert sum(tracker.segments[0].peak) == 512 + 4096
        assert sum(tracker.segments[0].end) == 512
        tracker.add([view], "weights")
        assert tracker.live["weights"] == 512
        assert tracker.live["activations"] == 0


@pytest.mark.slow
def test_quantised_layers_dequantise_to_what_loaded_ones_do(tmp_path: Path) -> None:
    config = small_config("starcoder2")
    meta_model(config).to_empty(device="cpu").to(torch.bfloat16).save_pretrained(tmp_path)
    settings = QuantizationSettings()
    loaded = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.bfloat16, quantization_config=bitsandbytes_config(settings, torch.bfloat16))
    rehearsed = build_on_meta(read_config(config), dtype=torch.bfloat16, attn_implementation="sdpa",
                              quantization=settings)
    fill(rehearsed)
    real, rehearsed_one = (model.model.layers[0].mlp.c_fc for model in (loaded, rehearsed))
    assert rehearsed_one.weight.quant_state.dtype == real.weight.quant_state.dtype == torch.bfloat16
    assert rehearsed_one.bias.dtype == real.bias.dtype


def test_an_architecture_that_transformers_does_not_know() -> None:
    with pytest.raises(InputError, match="does not know the architecture 'mystery'"):
        read_config({"model_type": "mystery"})


def test_gradients_that_meet_are_summed_in_place_unless_another_still_reads_the_first() -> None:
    def made(backward_of: Any) -> int:
        leaf = torch.randn(64, 64, requires_grad=True)
        with StorageTracker(fake=False) as tracker:
            loss = backward_of(leaf * 1)
            tracker.begin("backward")
            loss.backward()
            tracker.finish()
        assert leaf.grad is not None
        expected, = torch.autograd.grad(backward_of(leaf * 1), leaf)
        assert torch.equal(leaf.grad, expected)
        return sum(tracker.segments[0].peak) - sum(tracker.segments[0].start)

    one = 64 * 64 * 4
    assert made(lambda x: (x * 2 + x * 3).sum()) <= 3 * one
    assert made(lambda x: (x + torch.sigmoid(x)).mul(2).sum()) <= 3 * one
