"""What each objective adds: pairs, references, scores and rollouts."""

from dataclasses import replace
from typing import Any

import pytest

from workbench.engine.catalog.architecture import Architecture, architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.estimate import COMPONENTS, MemoryEstimate, estimate_memory
from workbench.engine.memory.objectives import OBJECTIVES
from workbench.engine.memory.terms import FULL_LOGITS_BYTES
from workbench.engine.objectives import OBJECTIVES as TRAINED

NAME = "meta-llama/Llama-3.2-1B"


def model(name: str = NAME) -> Architecture:
    return architecture_from_config(resolve_model(name).config)


def estimate(name: str = NAME, **changes: Any) -> MemoryEstimate:
    return estimate_memory(model(name), replace(MemoryCase(), **changes))


def test_every_objective_of_the_workbench_is_described() -> None:
    assert set(OBJECTIVES) == set(TRAINED)


@pytest.mark.parametrize("tuning", ["full", "lora", "qlora"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", [NAME, "Qwen/Qwen3-30B-A3B"])
def test_every_objective_and_tuning_has_an_estimate(name: str, objective: str, tuning: Any) -> None:
    found = estimate(name, objective=objective, tuning=tuning)
    assert tuple(found.components) == COMPONENTS
    assert sum(found.components.values()) == found.peak_bytes
    assert 0 < found.static_bytes < found.low_bytes < found.peak_bytes < found.high_bytes


@pytest.mark.parametrize("objective", ["dpo", "rt"])
def test_a_pair_is_two_sequences(objective: str) -> None:
    assert estimate(objective=objective).peak_bytes == estimate(per_device_train_batch_size=8).peak_bytes


@pytest.mark.parametrize("objective", ["dpo", "rt", "kto"])
def test_full_preference_tuning_holds_a_reference_unless_it_was_asked_before(objective: str) -> None:
    held = estimate(objective=objective, tuning="full")
    asked = estimate(objective=objective, tuning="full", precompute_ref_log_probs=True)
    assert held.static_bytes - asked.static_bytes == 2 * model().parameters
    assert estimate(objective=objective).static_bytes == estimate().static_bytes


def test_kl_to_a_reference_is_a_matter_of_beta() -> None:
    without = estimate(objective="rlhf", tuning="full").static_bytes
    for changes in ({"beta": 0.04}, {"algorithm": "rloo"}):
        assert estimate(objective="rlhf", tuning="full", **changes).static_bytes - without == 2 * model().parameters
    assert estimate(objective="rlhf", tuning="full", algorithm="rloo", beta=0.0).static_bytes == without


def test_trainers_that_switch_dropout_off_keep_no_masks() -> None:
    for objective in ("dpo", "kto", "reward"):
        assert estimate(objective=objective, lora_dropout=0.1) == estimate(objective=objective)
    for objective in ("sft", "orpo", "rlhf"):
        settings = {"objective": objective, "gradient_checkpointing": False}
        assert estimate(**settings, lora_dropout=0.1).peak_bytes > estimate(**settings).peak_bytes


def test_orpo_holds_all_logits_of_both_answers_only_without_the_chunked_head() -> None:
    assert estimate(objective="orpo").peak_bytes == estimate(per_device_train_batch_size=8).peak_bytes
    found = estimate(objective="orpo", loss_kernel="full_logits")
    assert found.peak_moment == "the loss"
    assert found.components["logits"] == FULL_LOGITS_BYTES * 2 * 4 * 1024 * model().vocab_size
    # Our own trainer leaves adapters in float32, as PEFT makes them.
    double = estimate(objective="orpo", tuning="qlora").static_bytes - estimate(tuning="qlora").static_bytes
    assert double == 6 * estimate().trainable_parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", [NAME, "Qwen/Qwen3-8B"])
def test_a_reward_model_has_a_score_in_place_of_its_head(name: str) -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    config = dict(resolve_model(name).config)
    settings = CONFIG_MAPPING[config.pop("model_type")](**config, num_labels=1)
    with torch.device("meta"):
        real = AutoModelForSequenceClassification.from_config(settings)
    found = estimate(name, objective="reward", tuning="full")
    assert found.parameters == found.trainable_parameters == real.num_parameters()
    # No logits: not even a tile of them.
    assert estimate(name, objective="reward", max_length=32).components["logits"] == 0


def test_rollouts_fill_a_cache_for_a_whole_step() -> None:
    many = {"objective": "rlhf", "max_length": 4352, "max_completion_length": 4096, "gradient_accumulation_steps": 32}
    found = estimate(**many)
    assert found.peak_moment == "the generation of answers"
    # 16 layers, 8 heads of 64, keys and values of 2 bytes; without gradients of adapters.
    assert found.components["activations"] == 4 * 32 * (256 + 4096) * 16 * 2 * 8 * 64 * 2
    assert found.components["gradients"] == 0
    assert estimate(**{**many, "gradient_accumulation_steps": 1}).peak_moment != found.peak_moment


def test_only_answers_are_scored() -> None:
    short = {"objective": "rlhf", "tuning": "full", "max_length": 2048, "gradient_accumulation_steps": 2}
    name = "google/gemma-3-1b-it"  # a head so large that the loss is the peak
    default, longer = estimate(name, **short), estimate(name, **short, max_completion_length=1024)
    assert (default.peak_moment, longer.peak_moment) == ("the loss", "the loss")
    # fp32 gradient of the scored positions and its cast, and one tile of logits a token.
    further = 4 * (1024 - 256) * model(name).hidden_size * (4 + 2)
    assert longer.components["logits"] - default.components["logits"] == further + (4096 - 1024) * 32768 * 2


def test_experts_are_quantised_where_they_are_layers() -> None:
    mixtral = resolve_model("mistralai/Mixtral-8x7B-v0.1").config
    case = MemoryCase(tuning="qlora", target_modules=("q_proj", "v_proj"))
    fused, single = (
        estimate_memory(architecture_from_config(mixtral), replace(case, transformers=version)).components["weights"]
        for version in ("5", "4")
    )
    assert single < 26 * 1024**3 < 80 * 1024**3 < fused
    old = estimate_memory(architecture_from_config(mixtral), replace(case, loss_kernel="full_logits"))
    assert old.components["weights"] == pytest.approx(single, rel=0.01)
