"""The table of model families: in what their decoder blocks differ, one row each."""

from dataclasses import dataclass
from typing import Literal

Bias = Literal["no", "yes", "config"]


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type` of transformers.

    Defaults are those of its config class (transformers 5.23), for fields that a `config.json` may leave out; None
    means "derived from hidden_size and num_attention_heads". A bias of "config" follows the config's own flag.
    """

    model_type: str
    model_class: str
    tied: bool = False
    kv_heads: int | None = None
    head_dim: int | None = None
    qkv_bias: Bias = "no"
    out_bias: Bias = "no"
    mlp_bias: Bias = "no"
    out_name: str = "o_proj"
    activation: str = "silu"
    fused: bool = False
    """One `qkv_proj` and one `gate_up_proj` in place of three and two layers."""
    gated_mlp: bool = True
    norms_per_block: int = 2
    layer_norm: bool = False
    """LayerNorm (weight and bias) in place of RMSNorm (weight)."""
    fp32_norm_weight: bool = False
    """Gemma's RMSNorm multiplies in fp32: it keeps an fp32 normalised value where others keep a 16-bit one."""
    qk_norm: Literal["no", "head", "full", "config"] = "no"
    """Norms on queries and keys: per head (`head_dim` weights), over the whole projection, or where the config sets
    `qk_layernorm` (Phi: a LayerNorm per head)."""
    concatenated_rotary: bool = False
    """Rotary embedding on a part of each head, then a concatenation: attention's output needs a contiguous copy."""
    parallel_residual: bool = False
    """Attention and MLP read the same normalised input."""
    scaled_embedding: bool = False
    """The embedding is multiplied outside its module, so one more hidden state stays alive."""
    head_bias: bool = False
    experts_field: str | None = None
    expert_size_field: str = "intermediate_size"


_ROWS = (
    Family("llama", "LlamaForCausalLM", qkv_bias="config", out_bias="config", mlp_bias="config"),
    Family("mistral", "MistralForCausalLM", kv_heads=8),
    Family("qwen2", "Qwen2ForCausalLM", kv_heads=32, qkv_bias="yes"),
    Family("qwen3", "Qwen3ForCausalLM", kv_heads=32, head_dim=128, qkv_bias="config", out_bias="config",
           qk_norm="head"),
    Family("gemma", "GemmaForCausalLM", True, 16, 256, qkv_bias="config", out_bias="config",
           activation="gelu_pytorch_tanh", fp32_norm_weight=True),
    Family("gemma2", "Gemma2ForCausalLM", True, 4, 256, qkv_bias="config", out_bias="config", norms_per_block=4,
           activation="gelu_pytorch_tanh", fp32_norm_weight=True),
    Family("gemma3_text", "Gemma3ForCausalLM", True, 4, 256, qkv_bias="config", out_bias="config", norms_per_block=4,
           activation="gelu_pytorch_tanh", fp32_norm_weight=True, qk_norm="head"),
    Family("phi", "PhiForCausalLM", qkv_bias="yes", out_bias="yes", mlp_bias="yes", out_name="dense",
           activation="gelu_new", gated_mlp=False, norms_per_block=1, layer_norm=True, qk_norm="config",
           concatenated_rotary=True, parallel_residual=True, head_bias=True),
    Family("phi3", "Phi3ForCausalLM", fused=True, concatenated_rotary=True),
    Family("granite", "GraniteForCausalLM", qkv_bias="config", out_bias="config", mlp_bias="config",
           scaled_embedding=True),
    Family("olmo2", "Olmo2ForCausalLM", qkv_bias="config", out_bias="config", qk_norm="full"),
    Family("smollm3", "SmolLM3ForCausalLM", True, 4, qkv_bias="config", out_bias="config", mlp_bias="config"),
    Family("mixtral", "MixtralForCausalLM", kv_heads=8, experts_field="num_local_experts"),
    Family("qwen3_moe", "Qwen3MoeForCausalLM", kv_heads=4, qkv_bias="config", out_bias="config", qk_norm="head",
           experts_field="num_experts", expert_size_field="moe_intermediate_size"),
)

FAMILIES: dict[str, Family] = {row.model_type: row for row in _ROWS}
"""By transformers' `model_type`."""
