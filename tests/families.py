"""Small configs of every family, and of the settings that change a family's shape: what several tests run over."""

from typing import Any

from workbench.engine.catalog.families import FAMILIES

# Uneven on purpose: queries, keys and hidden size all differ, so that no two can be mixed up unnoticed.
_SMALL: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 4, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 130, "max_position_embeddings": 64,
}  # fmt: skip
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
_ROUTED: dict[str, Any] = {**_EXPERTS, "n_routed_experts": 4, "n_shared_experts": 2, "n_group": 1, "topk_group": 1}
_LATENT: dict[str, Any] = {
    "q_lora_rank": 20, "kv_lora_rank": 12, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 14,
    "num_key_value_heads": 6, "head_dim": 6,
}  # fmt: skip
_GPT2: dict[str, Any] = {"n_embd": 48, "n_layer": 4, "n_head": 6, "n_positions": 64, "vocab_size": 130}
FURTHER: dict[str, dict[str, Any]] = {
    "phi3": {"head_dim": 8, "pad_token_id": 0},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoeshared": {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 40},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "minimax_m2": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "llama4_text": {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 80,
                    "interleave_moe_layer_step": 2},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    "bitnet": {"head_dim": 8}, "helium": {"head_dim": 8}, "phi": {"head_dim": 8}, "cwm": {"bos_token_id": 0},
    "flex_olmo": {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {"num_experts": 4, **_EXPERTS, "shared_expert_intermediate_size": 40, "mlp_only_layers": [1]},
    "qwen3_moe": {"num_experts": 4, **_EXPERTS, "mlp_only_layers": [1]},
    "exaone_moe": {"num_experts": 4, **_EXPERTS, "num_shared_experts": 2},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24, "moe_num_shared_experts": 2,
                     "moe_layer_end_index": 2},
    "aria_text": {"moe_num_experts": 4, "moe_topk": 2},
    "deepseek_v2": {**_ROUTED, **_LATENT, "first_k_dense_replace": 1},
    "deepseek_v3": {**_ROUTED, **_LATENT, "first_k_dense_replace": 1},
    "glm4_moe_lite": {**_ROUTED, **_LATENT},
    "youtu": _LATENT,
    "minicpm3": _LATENT,
    "glm4_moe": {**_ROUTED, "first_k_dense_replace": 1},
    "dots1": {**_ROUTED, "first_k_dense_replace": 1},
    "solar_open": _ROUTED,
    "opt": {"ffn_dim": 112, "word_embed_proj_dim": 48},
    "xglm": {"d_model": 48, "num_layers": 4, "attention_heads": 6, "ffn_dim": 112},
    "gpt_neo": {"num_layers": 4, "num_heads": 6, "attention_types": [[["global", "local"], 2]]},
    "mpt": {"d_model": 48, "n_heads": 6, "n_layers": 4, "expansion_ratio": 3},
    "bloom": {"n_layer": 4, "n_head": 6},
    "falcon": {"ffn_hidden_size": 112},
    "gpt2": _GPT2, "gpt_bigcode": _GPT2,
    "gptj": {**_GPT2, "rotary_dim": 4}, "codegen": {**_GPT2, "rotary_dim": 4},
}  # fmt: skip
_NOT_TAKEN = {  # fields of _SMALL that a config class does not know, or knows by another name
    "opt": {"intermediate_size", "num_key_value_heads", "head_dim"},
    "xglm": {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_key_value_heads",
             "head_dim"},
    "gpt_neo": {"num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"},
    "mpt": set(_SMALL) - {"vocab_size"}, "gpt2": set(_SMALL), "gpt_bigcode": set(_SMALL), "gptj": set(_SMALL),
    "codegen": set(_SMALL), "bloom": {"num_hidden_layers", "num_attention_heads", "intermediate_size", "head_dim"},
    "falcon": {"intermediate_size", "num_key_value_heads", "head_dim"},
}  # fmt: skip
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("llama", {"num_key_value_heads": None, "head_dim": None}),
    ("qwen2_moe", {"qkv_bias": False, "decoder_sparse_step": 2, "mlp_only_layers": []}),
    ("qwen3", {"attention_bias": True}),
    ("gemma2", {"tie_word_embeddings": False}),
    ("phi", {"qk_layernorm": True}),
    ("phimoe", {"attention_bias": True, "lm_head_bias": True}),
    ("granitemoeshared", {"shared_intermediate_size": 0}),
    ("gpt_bigcode", {"multi_query": False}),
    ("gpt2", {"n_inner": 100, "tie_word_embeddings": False}),
    ("gpt_neox", {"use_parallel_residual": False}),
    ("gpt_neox", {"attention_bias": False, "tie_word_embeddings": True}),
    ("falcon", {"bias": True, "multi_query": False, "alibi": True, "parallel_attn": False}),
    ("falcon", {"multi_query": True, "parallel_attn": False}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1}),
    ("stablelm", {"use_parallel_residual": True, "use_qkv_bias": True}),
    ("stablelm", {"qk_layernorm": True}),
    ("persimmon", {"qk_layernorm": False}),
    ("starcoder2", {"use_bias": False, "tie_word_embeddings": False}),
    ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 32}),
    ("opt", {"enable_bias": False, "layer_norm_elementwise_affine": False}),
    ("cohere", {"use_qk_norm": True, "attention_bias": True}),
    ("deepseek_v2", {"q_lora_rank": None, "mlp_bias": True, "attention_bias": True}),
    ("deepseek_v3", {"q_lora_rank": None, "n_shared_experts": 1}),
    ("glm4_moe", {"use_qk_norm": True, "attention_bias": True}),
    ("glm4_moe_lite", {"mlp_layer_types": ["dense", "dense", "sparse", "dense"]}),
    ("exaone_moe", {"first_k_dense_replace": 2}),
    ("ernie4_5", {"use_bias": True}),
    ("ernie4_5_moe", {"moe_layer_interval": 2, "moe_layer_end_index": -1, "use_bias": True}),
    ("llama4_text", {"moe_layers": [0, 3], "tie_word_embeddings": True}),
    ("hyperclovax", {"use_post_norm": False}),
    ("seed_oss", {"attention_bias": False, "attention_out_bias": True}),
    ("bloom", {"tie_word_embeddings": False}),
]


def small_config(family: str, **changes: Any) -> dict[str, Any]:
    """A config of a few thousand parameters, as its config.json would have it."""
    skipped = _NOT_TAKEN.get(family, set())
    base = {key: value for key, value in _SMALL.items() if key not in skipped}
    return {"model_type": family, "architectures": [FAMILIES[family].model_class], **base,
            **FURTHER.get(family, {}), **changes}  # fmt: skip


def config_object(config: dict[str, Any]) -> Any:
    """transformers' own config. Token ids are left out: they are none of the small vocabulary's."""
    from transformers import CONFIG_MAPPING

    fields = {key: value for key, value in config.items() if key != "model_type"}
    ids: dict[str, Any] = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    return CONFIG_MAPPING[config["model_type"]](**{**ids, **fields})


def meta_model(config: dict[str, Any]) -> Any:
    """The model as AutoModelForCausalLM builds it, without memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config_object(config))
