"""Parameter counts against transformers' own classes, adapters against PEFT's: equal to the single number."""

import warnings
from typing import Any

import pytest

from tests.families import VARIANTS, meta_model, small_config
from tests.tools.config_defaults import defaults_of
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.families import FAMILIES
from workbench.engine.catalog.models import list_models, resolve_model
from workbench.engine.catalog.reader import config_defaults
from workbench.engine.errors import InputError

CATALOGUE = sorted(info.name for info in list_models() if info.source == "catalogue")
CASES = [(family, {}) for family in FAMILIES] + VARIANTS


@pytest.mark.slow
@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_counts_equal_transformers(name: str) -> None:
    config = resolve_model(name).config
    architecture = architecture_from_config(config)
    model = meta_model(config)
    assert architecture.parameters == model.num_parameters()
    assert architecture.embedding_parameters == model.get_input_embeddings().weight.numel()


def listed_linears(architecture: Any, head: str) -> dict[str, int]:
    """Parameters of the linear layers by name, as the architecture has them."""
    listed = {head: architecture.head.parameters}
    blocks = [(linear, block.count) for block in architecture.blocks for linear in block.linears]
    for linear, count in [*blocks, *((linear, 1) for linear in architecture.outer)]:
        listed[linear.name] = listed.get(linear.name, 0) + count * linear.parameters
    return listed


@pytest.mark.slow
@pytest.mark.parametrize(("family", "changes"), CASES)
def test_every_family_lists_its_linear_layers(family: str, changes: dict[str, Any]) -> None:
    import torch
    from transformers.pytorch_utils import Conv1D

    config = small_config(family, **changes)
    architecture = architecture_from_config(config)
    model = meta_model(config)
    assert type(model).__name__ == FAMILIES[family].model_class
    assert architecture.parameters == model.num_parameters()
    found: dict[str, int] = {}
    head = ""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D):
            last = name.rsplit(".", 1)[-1]
            found[last] = found.get(last, 0) + sum(p.numel() for p in module.parameters(recurse=False))
            head = last if module is model.get_output_embeddings() else head
    assert listed_linears(architecture, head) == found


def adapter_parameters(config: dict[str, Any], r: int, targets: str | list[str]) -> int:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(meta_model(config), LoraConfig(r=r, target_modules=targets))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "changes"), CASES)
def test_all_linear_adapters_equal_peft(family: str, changes: dict[str, Any]) -> None:
    config = small_config(family, **changes)
    assert architecture_from_config(config).lora_parameters(8, "all-linear") == adapter_parameters(
        config, 8, "all-linear"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("llama", ["q_proj", "v_proj"]), ("phi", ["dense", "fc2"]), ("granite", ["o_proj", "c_attn", "lm_head"]),
        ("gpt2", ["c_attn", "c_proj"]), ("falcon", ["query_key_value"]), ("deepseek_v2", ["kv_b_proj", "o_proj"]),
        ("gpt_oss", ["q_proj", "v_proj"]),
    ],
)  # fmt: skip
def test_named_adapters_equal_peft(family: str, targets: list[str]) -> None:
    config = small_config(family)
    assert architecture_from_config(config).lora_parameters(4, targets) == adapter_parameters(config, 4, targets)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_defaults_are_those_of_the_installed_config_class(family: str) -> None:
    assert config_defaults()[family] == defaults_of(family)


@pytest.mark.parametrize(("family", "changes"), CASES)
def test_modules_sum_to_the_whole(family: str, changes: dict[str, Any]) -> None:
    architecture = architecture_from_config(small_config(family, **changes))
    assert sum(architecture.parameters_by_module.values()) == architecture.parameters
    assert architecture.num_hidden_layers == 4


def test_a_config_in_memory_may_hold_what_json_cannot() -> None:
    config = small_config("llama")
    loaded = {**config, "id2label": {0: "LABEL_0"}, "dtype": object()}
    assert architecture_from_config(loaded).parameters == architecture_from_config(config).parameters


def test_a_tied_head_counts_once() -> None:
    untied = architecture_from_config(small_config("llama"))
    tied = architecture_from_config(small_config("llama", tie_word_embeddings=True))
    assert untied.parameters - tied.parameters == untied.embedding_parameters == 130 * 48
    assert tied.parameters_by_module["head"] == 0


def test_shared_experts_positions_and_projections_have_their_own_lines() -> None:
    shared = architecture_from_config(small_config("deepseek_v3")).parameters_by_module
    assert shared["shared experts"] == 3 * 3 * 48 * (2 * 24)
    opt = architecture_from_config(small_config("opt", word_embed_proj_dim=32)).parameters_by_module
    assert (opt["positions"], opt["projections"]) == ((64 + 2) * 48, 2 * 32 * 48)


@pytest.mark.slow
def test_a_field_left_out_takes_the_config_class_default() -> None:
    config = small_config("gemma2")
    del config["head_dim"], config["num_key_value_heads"], config["vocab_size"]
    assert architecture_from_config(config).parameters == meta_model(config).num_parameters()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bloom", "falcon"])
def test_older_files_name_the_hidden_size_n_embed(family: str) -> None:
    config = small_config(family)
    config["n_embed"] = config.pop("hidden_size")
    assert architecture_from_config(config).parameters == meta_model(config).num_parameters()


def test_bitsandbytes_takes_linear_layers_but_neither_experts_nor_falcons_own_class() -> None:
    mixtral = architecture_from_config(small_config("mixtral"))
    assert mixtral.block_linear_parameters == 4 * 48 * (2 * 96 + 2 * 32)
    assert architecture_from_config(small_config("falcon")).block_linear_parameters == 0


# transformers passes the module of the last parameter by: the head, or a norm. Here that is the last layer's fc2.
ODD = ("opt", {"enable_bias": False, "layer_norm_elementwise_affine": False})


@pytest.mark.slow
@pytest.mark.parametrize(("family", "changes"), [case for case in CASES if case != ODD])
def test_quantised_layers_equal_bitsandbytes(family: str, changes: dict[str, Any]) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    config = small_config(family, **changes)
    model = meta_model(config)
    skipped = get_keys_to_not_convert(model)
    replace_with_bnb_linear(model, skipped, BitsAndBytesConfig(load_in_4bit=True))
    found = sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit))
    assert architecture_from_config(config).block_linear_parameters == found


TEXT: dict[str, Any] = small_config("llama4_text")


def test_a_composite_config_is_read_as_its_text_decoder_where_that_is_loaded_alone() -> None:
    composite = {"model_type": "llama4", "architectures": ["Llama4ForConditionalGeneration"], "text_config": TEXT}
    assert architecture_from_config(composite).parameters == architecture_from_config(TEXT).parameters


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architectures": ["NewNetForCausalLM"], "model_type": "llama"}, "NewNetForCausalLM"),
        ({"model_type": "newnet"}, "newnet"),
        ({}, "without architectures"),
        ({"model_type": "llama"}, "no hidden_size"),
        ({"model_type": "qwen2_vl", "text_config": small_config("qwen2")}, "towers"),
        (small_config("llama", vocab_size=None), "vocab_size"),
        (small_config("llama", hidden_size="48"), "hidden_size"),
        (small_config("llama", num_hidden_layers=True), "num_hidden_layers"),
        (small_config("llama", intermediate_size=10**12), "intermediate_size"),
        (small_config("llama", head_dim=None, hidden_size=50), "does not divide"),
        (small_config("llama", tie_word_embeddings="yes"), "tie_word_embeddings"),
        (small_config("mixtral", num_experts_per_tok=9), "num_experts_per_tok = 9 of only"),
        (small_config("glm4_moe_lite", mlp_layer_types=["dense"]), "mlp_layer_types"),
        (small_config("gpt2", resid_pdrop=1.5), "resid_pdrop"),
    ],
)
def test_what_is_not_known_is_refused_by_name(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        architecture_from_config(config)
    assert words in caught.value.message


def test_an_unknown_architecture_offers_the_rehearsal() -> None:
    with pytest.raises(InputError) as caught:
        architecture_from_config({"model_type": "mamba", "architectures": ["MambaForCausalLM"]})
    assert caught.value.hint is not None
    assert "rehearse" in caught.value.hint


def test_targets_that_match_nothing_name_the_layers_there_are() -> None:
    architecture = architecture_from_config(small_config("phi3"))
    with pytest.raises(InputError) as caught:
        architecture.lora_parameters(8, ["q_proj"])
    assert caught.value.hint is not None
    assert "qkv_proj" in caught.value.hint


def test_single_experts_cannot_be_targets() -> None:
    with pytest.raises(InputError, match="experts"):
        architecture_from_config(small_config("qwen3_moe")).lora_parameters(8, ["q_proj", "down_proj"])


@pytest.mark.slow
def test_every_other_causal_model_of_transformers_is_refused_with_the_way_out() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = {row.model_class for row in FAMILIES.values()}  # some go by a second model_type, as internlm3
    others = {kind: name for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items() if name not in known}
    assert len(others) > 50
    answers = {}
    for kind, name in others.items():
        config = {"model_type": kind, "architectures": [name] if isinstance(name, str) else list(name)}
        with pytest.raises(InputError) as caught:
            architecture_from_config(config)
        answers[kind] = (caught.value.message, caught.value.hint or "")
    wrong = {kind: words for kind, words in answers.items()
             if not {kind, str(others[kind])} & set(words[0].strip(".").split()) or ". " in words[0]
             or "rehearse" not in words[1]}
    assert not wrong
