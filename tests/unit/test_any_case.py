"""Whatever a case combines: a result that hangs together, or one sentence."""

import json
import math
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.memory.case import CHOICES
from workbench.engine.memory.cases_file import results
from workbench.engine.memory.objectives import OBJECTIVES
from workbench.engine.memory.optimizers import OPTIMIZERS

MODELS = (
    "meta-llama/Llama-3.1-8B", "mistralai/Mixtral-8x7B-v0.1", "Qwen/Qwen3-30B-A3B", "google/gemma-2-27b",
    "microsoft/phi-2", "openai-community/gpt2", "tiiuae/falcon-7b", "bigcode/starcoder", "EleutherAI/pythia-70m",
    "deepseek-ai/DeepSeek-V3", "openai/gpt-oss-20b", "facebook/opt-350m", "bigscience/bloom-560m",
)  # fmt: skip
CONFIGS = {name: resolve_model(name).config for name in MODELS}

CASES = st.fixed_dictionaries({"model": st.sampled_from(MODELS)}, optional={
    **{name: st.sampled_from(choices) for name, choices in CHOICES.items()},
    "objective": st.sampled_from(sorted(OBJECTIVES)),
    "optim": st.sampled_from(sorted(OPTIMIZERS)),
    "lora_r": st.sampled_from((1, 8, 64, 4096)),
    "lora_dropout": st.sampled_from((0, 0.05)),
    "target_modules": st.sampled_from(("all-linear", ["q_proj", "v_proj"], ["c_attn"], "query_key_value", [])),
    "per_device_train_batch_size": st.sampled_from((1, 2, 7, 4096)),
    "gradient_accumulation_steps": st.sampled_from((1, 8)),
    "max_length": st.sampled_from((1, 2, 1000, 4096, 1_000_000)),
    "num_processes": st.sampled_from((1, 2, 64)),
    "beta": st.sampled_from((0, 0.1)),
    "num_generations": st.sampled_from((2, 8)),
    "max_completion_length": st.sampled_from((1, 256, 10**6)),
    "reward_parameters": st.sampled_from((0, 10**9)),
    **{name: st.booleans() for name in ("gradient_checkpointing", "prepare_for_kbit", "packing",
                                        "precompute_ref_log_probs")},
})  # fmt: skip


def answers(*documents: dict[str, Any]) -> list[dict[str, Any]]:
    return list(results([json.dumps(document).encode() for document in documents], None))


def is_sentence(result: dict[str, Any]) -> bool:
    error = result["error"]
    unforeseen = "This case cannot be estimated" in error
    return result.keys() == {"id", "error"} and error.endswith(".") and "\n" not in error and not unforeseen


def hangs_together(result: dict[str, Any]) -> bool:
    figures = [*result["components"].values(), *(result[key] for key in (
        "parameters", "trainable_parameters", "static_bytes", "peak_bytes", "low_bytes", "high_bytes"))]
    return (
        all(isinstance(figure, int) and figure >= 0 for figure in figures)
        and sum(result["components"].values()) == result["peak_bytes"]
        and result["static_bytes"] <= result["peak_bytes"]
        and result["low_bytes"] <= result["peak_bytes"] <= result["high_bytes"]
        and result["peak_moment"].startswith("the ")
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(CASES)
@example({"model": MODELS[0], "per_device_train_batch_size": 1, "max_length": 1})
@example({"model": MODELS[3], "per_device_train_batch_size": 4096, "max_length": 1_000_000, "tuning": "full"})
@example({"model": MODELS[1], "lora_r": 4096, "tuning": "qlora"})
def test_a_case_is_answered_by_figures_that_hang_together_or_by_a_sentence(case: dict[str, Any]) -> None:
    case = {"per_device_train_batch_size": 2, "max_length": 1024, **case}
    batch, length = case["per_device_train_batch_size"], case["max_length"]
    result, wider, longer = answers(
        case, {**case, "per_device_train_batch_size": batch + 1}, {**case, "max_length": length + 1})
    if "error" in result:
        assert is_sentence(result), result
        return
    assert hangs_together(result), result
    if case.get("objective") != "reward":
        assert result["parameters"] == architecture_from_config(CONFIGS[case["model"]]).parameters
    if case.get("tuning") == "full":
        assert result["trainable_parameters"] == result["parameters"]
    assert wider["peak_bytes"] >= result["peak_bytes"], wider
    assert longer["peak_bytes"] >= result["peak_bytes"], longer


@settings(max_examples=100, deadline=None, derandomize=True)
@given(CASES)
def test_a_quantised_base_is_never_heavier(case: dict[str, Any]) -> None:
    # FSDP2 divides 16-bit weights and leaves the 4-bit ones whole on every GPU: there the quantised base is heavier.
    plain = {**case, "quantization": "none", "prepare_for_kbit": False, "sharding": "none"}
    lora, qlora = answers({**plain, "tuning": "lora"}, {**plain, "tuning": "qlora"})
    if "error" in lora or "error" in qlora:
        assert ("error" in lora) == ("error" in qlora)
    else:
        assert qlora["components"]["weights"] <= lora["components"]["weights"]


def test_a_larger_vocabulary_costs_in_every_component_it_touches() -> None:
    config = CONFIGS[MODELS[0]]
    for kernel in ("auto", "full_logits", "liger"):
        small, large = answers(*({"model_config": {**config, "vocab_size": size}, "tuning": "full",
                                  "loss_kernel": kernel} for size in (32, 262144)))  # fmt: skip
        assert hangs_together(small)
        assert hangs_together(large)
        assert large["parameters"] - small["parameters"] == 2 * 4096 * (262144 - 32)
        assert large["peak_bytes"] > small["peak_bytes"]


# Damage: each field of a config in turn, in each of these ways.
VALUES = st.sampled_from((None, "4096", "", 0, -1, 1.5, 10**30, True, [], {}, [1, 2], math.pi, "gelu", 10**7))


# Their damage makes it another family, or none: the error names what is given or left.
OF_THE_FAMILY = ("architectures", "model_type")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_config_is_a_sentence_about_it(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(MODELS))
    field = data.draw(st.sampled_from(sorted(CONFIGS[name])))
    value = data.draw(VALUES)
    config = {**CONFIGS[name], field: value}
    tuning = data.draw(st.sampled_from(("full", "lora")))
    [result] = answers({"model_config": config, "tuning": tuning})
    if "error" not in result:
        assert hangs_together(result), (field, value, result)
    else:
        assert is_sentence(result), (field, value, result)
        assert field in result["error"] or field in OF_THE_FAMILY, (field, value, result)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_a_config_without_a_field_is_a_sentence_or_has_its_default(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(MODELS))
    left_out = data.draw(st.sets(st.sampled_from(sorted(CONFIGS[name])), min_size=1))
    [result] = answers({"model_config": {k: v for k, v in CONFIGS[name].items() if k not in left_out}})
    assert is_sentence(result) if "error" in result else hangs_together(result), (left_out, result)
