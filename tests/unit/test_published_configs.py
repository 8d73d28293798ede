"""Configs as they stand on the Hub: other fields' names, other classes, keys that mean nothing to the estimate."""

import json
from typing import Any

import pytest

from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.memory.cases_file import results

# What every config.json carries beside the model's shape.
BESIDE = {"_name_or_path": "somewhere", "transformers_version": "4.31.0", "torch_dtype": "float16", "use_cache": True,
          "bos_token_id": 1, "eos_token_id": [2, 3], "initializer_range": 0.02, "task_specific_params": {"x": {}},
          "auto_map": {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modelling_x.X"}}  # fmt: skip

MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu", "hidden_size": 4096,
           "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
           "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
           "sliding_window": None, "tie_word_embeddings": False, "vocab_size": 32768}  # fmt: skip
LLAMA_2 = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 4096,
           "intermediate_size": 11008, "max_position_embeddings": 4096, "num_attention_heads": 32,
           "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
           "rope_scaling": None, "tie_word_embeddings": False, "vocab_size": 32000}  # fmt: skip
FALCON = {"architectures": ["FalconForCausalLM"], "model_type": "falcon", "alibi": False, "bias": False,
          "apply_residual_connection_post_layernorm": False, "attention_dropout": 0.0, "hidden_dropout": 0.0,
          "hidden_size": 4544, "layer_norm_epsilon": 1e-05, "multi_query": True, "new_decoder_architecture": False,
          "num_attention_heads": 71, "num_hidden_layers": 32, "parallel_attn": True, "vocab_size": 65024}  # fmt: skip
NEOX = {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_act": "gelu", "layer_norm_eps": 1e-5,
        "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False,
        "use_parallel_residual": True}  # fmt: skip
BIGCODE = {"architectures": ["GPTBigCodeForCausalLM"], "model_type": "gpt_bigcode", "multi_query": True,
           "activation_function": "gelu_pytorch_tanh", "attention_softmax_in_fp32": True, "attn_pdrop": 0.1,
           "n_embd": 6144, "n_head": 48, "n_inner": 24576, "n_positions": 8192, "vocab_size": 49152}  # fmt: skip
FALCON_40B = {"alibi": False, "bias": False, "hidden_size": 8192, "parallel_attn": True, "vocab_size": 65024}


def without(config: dict[str, Any], *names: str, **changes: Any) -> dict[str, Any]:
    return {**{key: value for key, value in config.items() if key not in names}, **changes}


PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "Mistral-7B-v0.3": (MISTRAL, 7_248_023_552),
    "Mixtral-8x7B-v0.1": (
        {**MISTRAL, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "vocab_size": 32000,
         "num_experts_per_tok": 2, "num_local_experts": 8, "output_router_logits": False, "router_aux_loss_coef": 0.02},
        46_702_792_704),
    "Llama-2-7b": (LLAMA_2, 6_738_415_616),
    "Llama-2-70b": (
        {**LLAMA_2, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80,
         "num_key_value_heads": 8}, 68_976_648_192),
    "Llama-1 in its first spelling": (
        without(LLAMA_2, "num_key_value_heads", architectures=["LLaMAForCausalLM"], max_sequence_length=2048),
        6_738_415_616),
    "a classifier of Llama-2-7b": ({**LLAMA_2, "architectures": ["LlamaForSequenceClassification"]}, 6_738_415_616),
    "Llama-3.1-8B": (
        {**LLAMA_2, "intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256, "mlp_bias": False,
         "rope_scaling": {"factor": 8.0, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 8192}}, 8_030_261_248),
    "starcoder": ({**BIGCODE, "n_layer": 40}, 15_517_456_384),
    "falcon-7b": (FALCON, 6_921_720_704),
    "falcon-7b before transformers had it": (
        without(FALCON, "num_attention_heads", "num_hidden_layers", "new_decoder_architecture", n_head=71, n_layer=32,
                model_type="RefinedWebModel", architectures=["RWForCausalLM"]), 6_921_720_704),
    "stablelm-3b-4e1t before transformers had it": (
        {"architectures": ["StableLMEpochForCausalLM"], "model_type": "stablelm_epoch", "hidden_act": "silu",
         "hidden_size": 2560, "intermediate_size": 6912, "norm_eps": 1e-05, "num_attention_heads": 32, "num_heads": 32,
         "num_hidden_layers": 32, "num_key_value_heads": 32, "rope_pct": 0.25, "tie_word_embeddings": False,
         "vocab_size": 50304}, 2_795_443_200),
    "pythia-6.9b": (
        {**NEOX, "hidden_size": 4096, "intermediate_size": 16384, "num_attention_heads": 32, "num_hidden_layers": 32,
         "vocab_size": 50432}, 6_857_302_016),
    "pythia-1b": (
        {**NEOX, "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 8, "num_hidden_layers": 16,
         "vocab_size": 50304}, 1_011_781_632),
    "mpt-7b": (
        {"architectures": ["MPTForCausalLM"], "model_type": "mpt", "d_model": 4096, "expansion_ratio": 4, "n_heads": 32,
         "n_layers": 32, "no_bias": True, "max_seq_len": 2048, "vocab_size": 50432,
         "attn_config": {"alibi": True, "attn_impl": "torch"}}, 6_649_286_656),
    "bloom-7b1": (
        {"architectures": ["BloomForCausalLM"], "model_type": "bloom", "n_embed": 4096, "n_layer": 30,
         "num_attention_heads": 32, "seq_length": 2048, "vocab_size": 250880}, 7_069_016_064),
    "phi-2": (
        {"architectures": ["PhiForCausalLM"], "model_type": "phi", "hidden_act": "gelu_new", "hidden_size": 2560,
         "intermediate_size": 10240, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
         "partial_rotary_factor": 0.4, "qk_layernorm": False, "resid_pdrop": 0.1, "tie_word_embeddings": False,
         "vocab_size": 51200}, 2_779_683_840),
    "gemma-2b": (
        {"architectures": ["GemmaForCausalLM"], "model_type": "gemma", "head_dim": 256, "hidden_act": "gelu",
         "hidden_size": 2048, "intermediate_size": 16384, "num_attention_heads": 8, "num_hidden_layers": 18,
         "num_key_value_heads": 1, "vocab_size": 256000}, 2_506_172_416),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_gives_the_published_count(name: str) -> None:
    config, parameters = PUBLISHED[name]
    assert architecture_from_config({**BESIDE, **config}).parameters == parameters


def test_falcon_40b_is_the_same_under_its_old_names() -> None:
    old = {**FALCON_40B, "architectures": ["RWForCausalLM"], "model_type": "RefinedWeb", "n_head": 128, "n_head_kv": 8,
           "n_layer": 60}  # fmt: skip
    new = {**FALCON_40B, "architectures": ["FalconForCausalLM"], "model_type": "falcon", "num_attention_heads": 128,
           "num_kv_heads": 8, "num_hidden_layers": 60, "new_decoder_architecture": True}  # fmt: skip
    found = architecture_from_config(old)
    assert found.parameters == architecture_from_config(new).parameters
    assert (found.num_key_value_heads, found.head_dim, found.num_hidden_layers) == (8, 64, 60)


def test_granite_20b_is_transformers_own_count() -> None:
    import torch
    from transformers import AutoModelForCausalLM, GPTBigCodeConfig

    config = {**BIGCODE, "n_layer": 52}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(GPTBigCodeConfig(**config))
    assert architecture_from_config(config).parameters == model.num_parameters()


def estimated(config: dict[str, Any], **case: Any) -> dict[str, Any]:
    [result] = results([json.dumps({"id": "c", "model_config": {**BESIDE, **config}, **case}).encode()], None)
    return result


SETTINGS: list[dict[str, Any]] = [
    {"tuning": "full", "optim": "adamw_torch", "mixed_precision": "no"}, {"tuning": "lora", "mixed_precision": "no"},
    {"tuning": "qlora"}, {"tuning": "qlora", "quantization": "int8"}, {"objective": "dpo"}, {"objective": "reward"},
    {"objective": "rlhf", "tuning": "full"}, {"loss_kernel": "liger"}, {"loss_kernel": "full_logits"},
    {"tuning": "qlora", "loss_kernel": "full_logits", "prepare_for_kbit": True},
    {"tuning": "full", "num_processes": 4, "sharding": "fsdp"},
    {"tuning": "full", "num_processes": 2, "sharding": "ddp"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_config_is_estimated_under_every_setting(name: str, settings: dict[str, Any]) -> None:
    config, parameters = PUBLISHED[name]
    result = estimated(config, attn_implementation="flash_attention_2", **settings)
    shards = settings.get("num_processes", 1) if settings.get("sharding") == "fsdp" else 1
    weight = {"none": 2, "int8": 1}.get(settings.get("quantization", "none"), 2)
    least = 0.5 if settings.get("tuning") == "qlora" else weight
    assert result["peak_bytes"] > least * 0.9 * parameters / shards
    assert sum(result["components"].values()) == result["peak_bytes"] >= result["static_bytes"]
    if settings.get("objective") != "reward":
        assert result["parameters"] == parameters
    if settings.get("tuning") == "full":
        assert result["trainable_parameters"] == result["parameters"]


@pytest.mark.parametrize(("stored", "quantization"), [
    ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}, "nf4-double"),
    ({"load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4"}, "nf4"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
    ({"quant_method": "mxfp4"}, "none"), ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "none"),
])
def test_weights_are_loaded_as_the_config_says_they_are_stored(stored: dict[str, Any], quantization: str) -> None:
    found = estimated({**LLAMA_2, "quantization_config": stored}, tuning="lora")
    assert found == estimated(LLAMA_2, tuning="lora", quantization=quantization)


def test_a_storage_that_is_not_estimated_is_refused() -> None:
    gptq = {**LLAMA_2, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
    assert '"gptq", which is not estimated' in estimated(gptq, tuning="lora")["error"]
    assert estimated(gptq, tuning="lora", quantization="nf4") == estimated(LLAMA_2, tuning="lora", quantization="nf4")


@pytest.mark.parametrize(("config", "words"), [
    ({"architectures": ["ChatGLMModel"], "model_type": "chatglm"}, "ChatGLMModel is not known"),
    ({"architectures": ["QWenLMHeadModel"], "model_type": "qwen"}, "QWenLMHeadModel is not known"),
    ({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
      "text_config": {"hidden_size": 2560, "model_type": "gemma3_text"}, "vision_config": {}}, "towers"),
    ({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": 512}, "T5"),
])
def test_what_is_not_known_is_refused_in_a_sentence(config: dict[str, Any], words: str) -> None:
    result = estimated(config)
    assert result.keys() == {"id", "error"}
    assert words in result["error"]
