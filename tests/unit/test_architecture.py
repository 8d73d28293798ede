"""Parameter counts against transformers' own classes, adapters against PEFT's: equal to the single number."""

import warnings
from typing import Any

import pytest

from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.families import FAMILIES
from workbench.engine.catalog.models import list_models, resolve_model
from workbench.engine.errors import InputError

CATALOGUE = sorted(info.name for info in list_models() if info.source == "catalogue")

# Uneven on purpose: queries, keys and hidden size all differ, so that no two can be mixed up unnoticed.
SMALL: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 4, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 130,
}
FURTHER: dict[str, dict[str, Any]] = {
    "phi": {"head_dim": 8},
    "phi3": {"head_dim": 8},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "mlp_only_layers": [1]},
}
SWITCHES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "qwen3": {"attention_bias": True},
    "phi": {"qk_layernorm": True},
    "gemma2": {"tie_word_embeddings": False},
}
CASES = [(family, {}) for family in FAMILIES] + list(SWITCHES.items())


def small_config(family: str) -> dict[str, Any]:
    return {"model_type": family, "architectures": [FAMILIES[family].model_class], **SMALL, **FURTHER.get(family, {})}


def meta_model(config: dict[str, Any]) -> Any:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    fields = {key: value for key, value in config.items() if key != "model_type"}
    settings = CONFIG_MAPPING[config["model_type"]](**fields, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(settings)


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_counts_equal_transformers(name: str) -> None:
    config = resolve_model(name).config
    architecture = architecture_from_config(config)
    model = meta_model(config)
    assert architecture.parameters == model.num_parameters()
    assert architecture.num_hidden_layers == config["num_hidden_layers"]
    assert architecture.embedding_parameters == model.get_input_embeddings().weight.numel()


@pytest.mark.parametrize(("family", "switches"), CASES)
def test_every_family_lists_its_linear_layers(family: str, switches: dict[str, Any]) -> None:
    import torch

    config = small_config(family) | switches
    architecture = architecture_from_config(config)
    model = meta_model(config)
    assert architecture.parameters == model.num_parameters()
    found: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            last = name.rsplit(".", 1)[-1]
            found[last] = found.get(last, 0) + sum(p.numel() for p in module.parameters(recurse=False))
    listed: dict[str, int] = {"lm_head": architecture.head.parameters}
    for block in architecture.blocks:
        for linear in block.linears:
            listed[linear.name] = listed.get(linear.name, 0) + block.count * linear.parameters
    assert listed == found


def adapter_parameters(config: dict[str, Any], r: int, targets: str | list[str]) -> int:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(meta_model(config), LoraConfig(r=r, target_modules=targets))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_adapters_equal_peft(family: str) -> None:
    config = small_config(family)
    assert architecture_from_config(config).lora_parameters(8, "all-linear") == adapter_parameters(
        config, 8, "all-linear"
    )


@pytest.mark.parametrize(
    ("family", "targets"),
    [("llama", ["q_proj", "v_proj"]), ("phi", ["dense", "fc2"]), ("granite", ["o_proj", "c_attn", "lm_head"])],
)
def test_named_adapters_equal_peft(family: str, targets: list[str]) -> None:
    config = small_config(family)
    assert architecture_from_config(config).lora_parameters(4, targets) == adapter_parameters(config, 4, targets)


def test_modules_sum_to_the_whole_and_a_tied_head_counts_once() -> None:
    untied = architecture_from_config(small_config("llama"))
    tied = architecture_from_config(small_config("llama") | {"tie_word_embeddings": True})
    assert sum(untied.parameters_by_module.values()) == untied.parameters
    assert untied.parameters - tied.parameters == untied.embedding_parameters == 130 * 48
    assert tied.parameters_by_module["head"] == 0


def test_a_field_left_out_takes_the_config_class_default() -> None:
    config = small_config("gemma2")
    del config["head_dim"], config["num_key_value_heads"]
    assert architecture_from_config(config).parameters == meta_model(config).num_parameters()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architectures": ["NewNetForCausalLM"], "model_type": "llama"}, "NewNetForCausalLM"),
        ({"model_type": "newnet"}, "newnet"),
        ({}, "without architectures"),
        (small_config("llama") | {"vocab_size": None}, "vocab_size"),
        (small_config("llama") | {"hidden_size": "48"}, "hidden_size"),
        (small_config("llama") | {"num_hidden_layers": True}, "num_hidden_layers"),
        (small_config("llama") | {"intermediate_size": 10**12}, "intermediate_size"),
        (small_config("llama") | {"head_dim": None, "hidden_size": 50}, "does not divide"),
        (small_config("llama") | {"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ],
)
def test_what_is_not_known_is_refused_by_name(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        architecture_from_config(config)
    assert words in caught.value.message


def test_targets_that_match_nothing_name_the_layers_there_are() -> None:
    architecture = architecture_from_config(small_config("phi3"))
    with pytest.raises(InputError) as caught:
        architecture.lora_parameters(8, ["q_proj"])
    assert caught.value.hint is not None
    assert "qkv_proj" in caught.value.hint


def test_single_experts_cannot_be_targets() -> None:
    with pytest.raises(InputError, match="experts"):
        architecture_from_config(small_config("mixtral")).lora_parameters(8, ["q_proj", "down_proj"])
