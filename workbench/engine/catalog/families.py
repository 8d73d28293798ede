"""The table of model families: in what their decoder blocks differ, one row each.

Read off the model code of transformers 5.23. What a `config.json` leaves out takes the default of the family's config
class (reader.py). Left out here, and so refused: encoder-decoders, state-space and recurrent models (Mamba, Jamba,
RWKV), and decoders whose attention or residual stream has a form of its own; two of those are counted (counted.py).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

Bias = str
"""Whether a layer has a bias: "no", "yes", or the config's flag that says so (with ! in front: says not)."""

Residual = Literal["pre", "sandwich", "post", "after", "parallel", "parallel, two norms"]
"""Where the norms stand. pre: before attention and MLP. sandwich: before and after each. post: after each, before the
sum. after: behind the sum. parallel: attention and MLP read the same input, through one norm or through two."""

Rotary = Literal["none", "half", "partial", "fp32", "pairs", "complex"]
"""half: Llama's halves. partial: a part of each head (which may be all of it), then a concatenation, so that
attention's output needs a contiguous copy. fp32: Cohere's, on fp32 copies. pairs: GPT-J's. complex: fp32 complex."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """A family's experts: the config's fields, and what of transformers' and PEFT's code touches them."""

    experts: str = "num_experts"
    per_token: str = "num_experts_per_tok"
    size: str = "moe_intermediate_size"
    layers: Literal["all", "step", "first dense", "listed", "ernie", "llama4"] = "all"
    """Which layers route: by Qwen's `decoder_sparse_step`, after DeepSeek's `first_k_dense_replace`, ..."""
    shared: Literal["no", "counted", "sized", "same"] = "no"
    """Shared experts: a count of experts of the same size, a size of their own, or one of the same size."""
    shared_field: str = "n_shared_experts"
    shared_gate: bool = False
    shared_first: bool = False  # before the routed ones
    shared_fused: bool = False
    """One `input_linear` for gate and up, one `output_linear` (Granite)."""
    bias: bool = False
    router_bias: bool = False
    router_layer: str = ""
    """The router's name where it is an `nn.Linear` to PEFT."""
    router_fp32: bool = False
    router_uncast: bool = False
    """The router's product runs on fp32 copies (DeepSeek), and outside autocast, which casts them back (Ernie)."""
    weights_fp32: bool = False
    """The routing weights stay fp32, and so do the products with them."""
    adapters: Literal["none", "mixtral", "qwen2_moe"] = "none"
    """PEFT's conversion (utils/transformers_weight_conversion.py) that reaches the experts, if any."""
    clamped: bool = False
    """GPT-OSS's gate of clamped halves, interleaved."""
    described: bool = True


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type` of transformers."""

    model_type: str
    model_class: str
    residual: Residual = "pre"
    norm: str = "rms"
    final_norm: str = ""
    """As `norm` where empty; "none" where there is none."""
    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    """Three names, or one where the three are fused."""
    out: str = "o_proj"
    mlp: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    """gate, up, down; fused gate_up and down; or up and down of a plain MLP: see `gated`."""
    gated: bool = True
    qkv_bias: Bias = "no"
    out_bias: Bias = "no"
    mlp_bias: Bias = "no"
    head_bias: Bias = "no"
    kv_heads: str = "num_key_value_heads"
    """The config's field; "" where keys have as many heads as queries."""
    head_dim: str = "head_dim"
    """The config's field; "" where it follows from the hidden size."""
    intermediate: str = "intermediate_size"
    activation: str = "hidden_act"
    qk_norm: Literal["no", "head", "full"] = "no"
    """Norms on queries and keys: over each head, or over the whole projection."""
    qk_norm_flag: str = ""
    """The config's flag that switches `qk_norm` on."""
    qk_norm_kind: str = ""
    """As `norm` where empty."""
    qk_norm_each_head: bool = False
    """A weight of its own for each head (StableLM, Cohere)."""
    rotary: Rotary = "half"
    slices: bool = False
    """A fused product cut by slicing, whose backward pads each part's gradient to the whole."""
    written_out: bool = False
    """Attention is written out in the model: no kernel, the scores are kept whatever `attn_implementation` says."""
    scores: Literal["", "clipped", "held"] = ""
    """Written-out scores pass `torch.max`, which keeps them (XGLM), or stay beside their masked form (BLOOM)."""
    returns_scores: bool = False
    """A block's answer holds its attention weights: they live on while the next block runs forward."""
    no_sdpa: bool = False
    """transformers refuses or ignores "sdpa" here, and runs eager attention."""
    sinks: bool = False
    latent: bool = False
    """DeepSeek's multi-head latent attention."""
    inner_norms: bool = False
    """BitNet: norms before the output and the down projection."""
    layer_parameters: int = 0
    """Learned scalars of one block that belong to no layer."""
    dropout: str = ""
    """The config's field of the dropout behind attention and MLP."""
    attention_dropout: str = "attention_dropout"
    residual_scale: bool = False
    """What joins the residual stream is scaled first."""
    scaled_embedding: bool = False
    """The embedding's output is changed outside its module (scaled, positions added): one more hidden state stays."""
    positions: str = ""
    """The config's field with the number of learned positions."""
    position_offset: int = 0
    embedding_norm: str = ""  # the kind of a norm behind the embedding
    embedding_width: str = ""
    """The config's field of an embedding narrower than the stream (OPT-350M)."""
    quantised: bool = True
    mixture: Mixture | None = None
    variant: str = ""
    """The function in variants.py that adapts this row to a config, or in counted.py that counts it."""
    fixed: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def layer_norm(self) -> bool:
        """Whether the final norm is torch's LayerNorm, whose backward is one kernel."""
        return (self.final_norm or self.norm).startswith("layer") and (self.final_norm or self.norm) != "layer_fp32"


_BIAS: dict[str, Any] = {"qkv_bias": "attention_bias", "out_bias": "attention_bias"}
_LLAMA: dict[str, Any] = {**_BIAS, "mlp_bias": "mlp_bias"}
_GEMMA: dict[str, Any] = {**_BIAS, "norm": "rms_fp32", "activation": "hidden_activation"}
_GPT2: dict[str, Any] = {
    "norm": "layer", "qkv": ("c_attn",), "out": "c_proj", "mlp": ("c_fc", "c_proj"), "gated": False,
    "qkv_bias": "yes", "out_bias": "yes", "mlp_bias": "yes", "kv_heads": "", "head_dim": "", "intermediate": "n_inner",
    "activation": "activation_function", "rotary": "none", "dropout": "resid_pdrop", "attention_dropout": "attn_pdrop",
    "positions": "n_positions", "scaled_embedding": True,
}
_GPTJ: dict[str, Any] = {
    "residual": "parallel", "norm": "layer", "out": "out_proj", "mlp": ("fc_in", "fc_out"), "gated": False,
    "mlp_bias": "yes", "head_bias": "yes", "kv_heads": "", "head_dim": "", "intermediate": "n_inner",
    "activation": "activation_function", "rotary": "pairs", "written_out": True, "returns_scores": True,
    "dropout": "resid_pdrop", "attention_dropout": "attn_pdrop",
}
_FAIRSEQ: dict[str, Any] = {
    "norm": "layer", "out": "out_proj", "mlp": ("fc1", "fc2"), "gated": False, "kv_heads": "", "head_dim": "",
    "rotary": "none", "qkv_bias": "yes", "out_bias": "yes", "mlp_bias": "yes", "scaled_embedding": True,
}
_NEOX: dict[str, Any] = {
    "norm": "layer", "qkv": ("query_key_value",), "out": "dense", "mlp": ("dense_h_to_4h", "dense_4h_to_h"),
    "gated": False, "kv_heads": "", "head_dim": "", "mlp_bias": "yes",
}
_DEEPSEEK = Mixture("n_routed_experts", layers="first dense", shared="counted", router_fp32=True,
                    adapters="qwen2_moe")  # fmt: skip
_LATENT: dict[str, Any] = {"latent": True, "rotary": "partial"}
_GRANITE_MIXTURE = Mixture("num_local_experts", size="intermediate_size")

_ROWS = (
    Family("llama", "LlamaForCausalLM", **_LLAMA),
    Family("mistral", "MistralForCausalLM"),
    Family("ministral", "MinistralForCausalLM"),
    Family("ministral3", "Ministral3ForCausalLM"),
    Family("mixtral", "MixtralForCausalLM",
           mixture=Mixture("num_local_experts", size="intermediate_size", weights_fp32=True, adapters="mixtral")),
    Family("qwen2", "Qwen2ForCausalLM", qkv_bias="yes"),
    Family("qwen2_moe", "Qwen2MoeForCausalLM", qkv_bias="qkv_bias",
           mixture=Mixture(layers="step", shared="sized", shared_field="shared_expert_intermediate_size",
                           shared_gate=True, shared_first=True)),
    Family("qwen3", "Qwen3ForCausalLM", **_BIAS, qk_norm="head"),
    Family("qwen3_moe", "Qwen3MoeForCausalLM", **_BIAS, qk_norm="head",
           mixture=Mixture(layers="step", adapters="qwen2_moe")),
    Family("qwen3_next", "Qwen3NextForCausalLM", variant="qwen3_next",
           mixture=Mixture(layers="step", shared="sized", shared_field="shared_expert_intermediate_size",
                           shared_gate=True, shared_first=True, adapters="qwen2_moe")),
    Family("gemma", "GemmaForCausalLM", **_GEMMA),
    Family("gemma2", "Gemma2ForCausalLM", "sandwich", **_GEMMA, no_sdpa=True),
    Family("gemma3_text", "Gemma3ForCausalLM", "sandwich", **_GEMMA, qk_norm="head"),
    Family("gemma3n_text", "Gemma3nForCausalLM", norm="rms_fp32", activation="hidden_activation", variant="gemma3n"),
    Family("vaultgemma", "VaultGemmaForCausalLM", **_GEMMA, no_sdpa=True),
    Family("phi", "PhiForCausalLM", "parallel", "layer", out="dense", mlp=("fc1", "fc2"), gated=False, qkv_bias="yes",
           out_bias="yes", mlp_bias="yes", head_bias="yes", qk_norm="head", qk_norm_flag="qk_layernorm",
           rotary="partial", dropout="resid_pdrop"),
    Family("phi3", "Phi3ForCausalLM", qkv=("qkv_proj",), mlp=("gate_up_proj", "down_proj"), rotary="partial",
           slices=True, dropout="resid_pdrop"),
    Family("phimoe", "PhimoeForCausalLM", norm="layer", **_BIAS, head_bias="lm_head_bias",
           mixture=Mixture("num_local_experts", size="intermediate_size", router_layer="router")),
    Family("granite", "GraniteForCausalLM", **_LLAMA, residual_scale=True, scaled_embedding=True),
    Family("granitemoe", "GraniteMoeForCausalLM", **_BIAS, residual_scale=True, scaled_embedding=True,
           mixture=_GRANITE_MIXTURE),
    Family("granitemoeshared", "GraniteMoeSharedForCausalLM", **_BIAS, residual_scale=True, scaled_embedding=True,
           mixture=Mixture("num_local_experts", size="intermediate_size", shared="sized",
                           shared_field="shared_intermediate_size", shared_fused=True)),
    Family("smollm3", "SmolLM3ForCausalLM", **_LLAMA),
    Family("olmo", "OlmoForCausalLM", norm="layer_bare", **_BIAS),
    Family("olmo2", "Olmo2ForCausalLM", "post", "rms_fp32_cast", **_BIAS, qk_norm="full"),
    Family("olmo3", "Olmo3ForCausalLM", "post", "rms_fp32_cast", **_BIAS, qk_norm="full"),
    Family("olmoe", "OlmoeForCausalLM", **_BIAS, qk_norm="full",
           mixture=Mixture(size="intermediate_size", adapters="qwen2_moe")),
    Family("flex_olmo", "FlexOlmoForCausalLM", "post", "rms_fp32_cast", **_BIAS, qk_norm="full",
           mixture=Mixture(size="intermediate_size", adapters="qwen2_moe")),
    Family("gpt2", "GPT2LMHeadModel", **_GPT2),
    Family("gpt_bigcode", "GPTBigCodeForCausalLM", **_GPT2, variant="gpt_bigcode"),
    Family("gpt_neo", "GPTNeoForCausalLM", norm="layer", out="out_proj", mlp=("c_fc", "c_proj"), gated=False,
           out_bias="yes", mlp_bias="yes", kv_heads="", head_dim="", activation="activation_function", rotary="none",
           written_out=True, returns_scores=True, dropout="resid_dropout", positions="max_position_embeddings",
           scaled_embedding=True),
    Family("gpt_neox", "GPTNeoXForCausalLM", **_NEOX, qkv_bias="attention_bias", out_bias="attention_bias",
           rotary="partial", dropout="hidden_dropout", variant="gpt_neox"),
    Family("gptj", "GPTJForCausalLM", **_GPTJ),
    Family("codegen", "CodeGenForCausalLM", **{**_GPTJ, "qkv": ("qkv_proj",)}),
    Family("starcoder2", "Starcoder2ForCausalLM", norm="layer", mlp=("c_fc", "c_proj"), gated=False,
           qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", dropout="residual_dropout"),
    Family("falcon", "FalconForCausalLM", **{**_NEOX, "mlp_bias": "bias"}, qkv_bias="bias", out_bias="bias",
           activation="activation", intermediate="ffn_hidden_size", dropout="hidden_dropout", quantised=False,
           slices=True, rotary="half", variant="falcon"),
    Family("persimmon", "PersimmonForCausalLM", **_NEOX, qkv_bias="yes", out_bias="yes", qk_norm="head",
           qk_norm_flag="qk_layernorm", rotary="partial", dropout="hidden_dropout"),
    Family("bloom", "BloomForCausalLM", **_NEOX, qkv_bias="yes", out_bias="yes", rotary="none", written_out=True,
           scores="held", returns_scores=True, slices=True, intermediate="", activation="", embedding_norm="layer",
           dropout="hidden_dropout", scaled_embedding=True, fixed={"activation": "bloom_gelu"}),
    Family("mpt", "MptForCausalLM", norm="layer_no_bias", qkv=("Wqkv",), out="out_proj", mlp=("up_proj", "down_proj"),
           gated=False, kv_heads="", head_dim="", rotary="none", written_out=True, returns_scores=True, intermediate="",
           activation="", fixed={"activation": "gelu"}),
    Family("stablelm", "StableLmForCausalLM", norm="layer", qkv_bias="use_qkv_bias", head_dim="", qk_norm="head",
           qk_norm_flag="qk_layernorm", qk_norm_kind="layer_no_bias", qk_norm_each_head=True, rotary="partial",
           dropout="hidden_dropout", variant="stablelm"),
    Family("opt", "OPTForCausalLM", **{**_FAIRSEQ, "qkv_bias": "enable_bias", "out_bias": "enable_bias",
                                       "mlp_bias": "enable_bias"},
           intermediate="ffn_dim", activation="activation_function", dropout="dropout",
           positions="max_position_embeddings", position_offset=2, embedding_width="word_embed_proj_dim",
           variant="opt"),
    Family("xglm", "XGLMForCausalLM", **_FAIRSEQ, intermediate="ffn_dim", activation="activation_function",
           dropout="dropout", written_out=True, scores="clipped"),
    Family("biogpt", "BioGptForCausalLM", **_FAIRSEQ, dropout="hidden_dropout_prob",
           attention_dropout="attention_probs_dropout_prob", positions="max_position_embeddings", position_offset=2),
    Family("cohere", "CohereForCausalLM", "parallel", "layer_fp32", **_BIAS, rotary="fp32",
           qk_norm="head", qk_norm_flag="use_qk_norm", qk_norm_each_head=True),
    Family("cohere2", "Cohere2ForCausalLM", "parallel", "layer_fp32", **_BIAS, rotary="fp32"),
    Family("deepseek_v2", "DeepseekV2ForCausalLM", **_LATENT, qkv_bias="attention_bias", out_bias="attention_bias",
           mlp_bias="mlp_bias", mixture=replace(_DEEPSEEK, weights_fp32=True)),
    Family("deepseek_v3", "DeepseekV3ForCausalLM", **_LATENT, qkv_bias="attention_bias", out_bias="attention_bias",
           mixture=_DEEPSEEK),
    Family("youtu", "YoutuForCausalLM", **_LATENT, qkv_bias="attention_bias", out_bias="attention_bias"),
    Family("minicpm3", "MiniCPM3ForCausalLM", **_LATENT, qkv_bias="attention_bias", out_bias="attention_bias",
           mlp_bias="mlp_bias", residual_scale=True),
    Family("glm4_moe_lite", "Glm4MoeLiteForCausalLM", **_LATENT, qkv_bias="attention_bias", out_bias="attention_bias",
           mixture=replace(_DEEPSEEK, layers="listed")),
    Family("gpt_oss", "GptOssForCausalLM", **_BIAS, norm="rms_fp32_cast", no_sdpa=True, sinks=True,
           mixture=Mixture("num_local_experts", size="intermediate_size", bias=True, router_bias=True, clamped=True)),
    Family("llama4_text", "Llama4ForCausalLM", **_BIAS, rotary="complex",
           intermediate="intermediate_size_mlp",
           mixture=Mixture("num_local_experts", size="intermediate_size", layers="llama4", shared="same",
                           router_layer="router", described=False)),
    Family("glm", "GlmForCausalLM", mlp=("gate_up_proj", "down_proj"), qkv_bias="attention_bias", rotary="partial"),
    Family("glm4", "Glm4ForCausalLM", "sandwich", mlp=("gate_up_proj", "down_proj"), qkv_bias="attention_bias",
           rotary="partial"),
    Family("glm4_moe", "Glm4MoeForCausalLM", qkv_bias="attention_bias", rotary="partial", qk_norm="head",
           qk_norm_flag="use_qk_norm", mixture=_DEEPSEEK),
    Family("dots1", "Dots1ForCausalLM", **_BIAS, qk_norm="head", mixture=_DEEPSEEK),
    Family("solar_open", "SolarOpenForCausalLM", qkv_bias="attention_bias", rotary="partial",
           mixture=Mixture("n_routed_experts", shared="counted", router_fp32=True, adapters="qwen2_moe")),
    Family("exaone4", "Exaone4ForCausalLM", "post", qk_norm="head"),
    Family("exaone_moe", "ExaoneMoeForCausalLM", qk_norm="head",
           mixture=Mixture(layers="listed", shared="counted", shared_field="num_shared_experts", router_fp32=True,
                           adapters="qwen2_moe")),
    Family("ernie4_5", "Ernie4_5ForCausalLM", qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias",
           rotary="pairs"),
    Family("ernie4_5_moe", "Ernie4_5_MoeForCausalLM", head_bias="use_bias", qkv_bias="use_bias", out_bias="use_bias",
           mlp_bias="use_bias", rotary="pairs",
           mixture=Mixture("moe_num_experts", "moe_k", layers="ernie", shared="counted",
                           shared_field="moe_num_shared_experts", shared_first=True, router_bias=True,
                           router_fp32=True, router_uncast=True, adapters="qwen2_moe")),
    Family("nemotron", "NemotronForCausalLM", norm="layer_1p", **_LLAMA, mlp=("up_proj", "down_proj"), gated=False,
           rotary="partial"),
    Family("arcee", "ArceeForCausalLM", **_LLAMA, mlp=("up_proj", "down_proj"), gated=False),
    Family("apertus", "ApertusForCausalLM", **_BIAS, mlp=("up_proj", "down_proj"), gated=False, qk_norm="head",
           layer_parameters=2),
    Family("jais2", "Jais2ForCausalLM", norm="layer", **_LLAMA, mlp=("up_proj", "down_proj"), gated=False),
    Family("nanochat", "NanoChatForCausalLM", norm="rms_bare", **_BIAS, mlp=("fc1", "fc2"), gated=False,
           qk_norm="head", embedding_norm="rms_bare", scaled_embedding=True),
    Family("bitnet", "BitNetForCausalLM", **_BIAS, inner_norms=True),
    Family("helium", "HeliumForCausalLM", norm="rms_fp32_cast", qkv_bias="attention_bias", mlp_bias="mlp_bias",
           rotary="pairs"),
    Family("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", **_BIAS, qk_norm="head"),
    Family("hyperclovax", "HyperCLOVAXForCausalLM", **_LLAMA, residual_scale=True, scaled_embedding=True,
           variant="hyperclovax"),
    Family("seed_oss", "SeedOssForCausalLM", qkv_bias="attention_bias", out_bias="attention_out_bias",
           mlp_bias="mlp_bias", dropout="residual_dropout"),
    Family("cwm", "CwmForCausalLM", mlp_bias="mlp_bias"),
    Family("minimax_m2", "MiniMaxM2ForCausalLM", qk_norm="full", rotary="partial",
           mixture=Mixture("num_local_experts", size="intermediate_size", weights_fp32=True, adapters="mixtral")),
    Family("aria_text", "AriaTextForCausalLM", **_LLAMA,
           mixture=Mixture("moe_num_experts", "moe_topk", "intermediate_size", shared="counted",
                           shared_field="moe_num_shared_experts")),
)  # fmt: skip

FAMILIES: dict[str, Family] = {row.model_type: row for row in _ROWS}
"""By transformers' `model_type`."""
