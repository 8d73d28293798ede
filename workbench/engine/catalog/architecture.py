"""A decoder's shape read from its `config.json`: every linear layer, and the exact parameter count by module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import orjson

from workbench.engine.catalog.attention import AttentionShape, norm_weights, read_latent
from workbench.engine.catalog.counted import gemma3n_blocks, gemma3n_outer, qwen3_next_blocks
from workbench.engine.catalog.decoder import BlockShape, build_block, read_experts, sparse_layers
from workbench.engine.catalog.families import Family
from workbench.engine.catalog.layers import LinearLayer
from workbench.engine.catalog.operations import Block
from workbench.engine.catalog.published import family_of
from workbench.engine.catalog.reader import ConfigReader
from workbench.engine.catalog.variants import adapted
from workbench.engine.errors import InputError

ALL_LINEAR = "all-linear"
"""PEFT's name for "every linear layer but the output head"."""


@dataclass(frozen=True, eq=False)
class Architecture:
    """A decoder-only language model, as far as counting its bytes needs it. Equal to itself alone: a quick key.

    `outer` are linear layers outside blocks, the head not among them; `position_parameters` and the like hold numbers.
    """

    traits: Family
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    activation: str
    qk_norm: bool
    blocks: tuple[Block, ...]
    head_bias: bool = False
    caps_logits: bool = False
    """The head's logits go through a tanh (Gemma 2)."""
    embedding_width: int = 0
    """Width of the token embedding where it is narrower than the stream; 0: as wide."""
    position_parameters: int = 0
    per_layer_embedding_parameters: int = 0
    outer_norm_parameters: int = 0
    outer: tuple[LinearLayer, ...] = ()

    @property
    def family(self) -> str:
        """transformers' `model_type`."""
        return self.traits.model_type

    @property
    def num_hidden_layers(self) -> int:
        """Decoder blocks of any shape."""
        return sum(block.count for block in self.blocks)

    @property
    def embedding_parameters(self) -> int:
        """Numbers in the token embedding, [vocab, width]."""
        return self.vocab_size * (self.embedding_width or self.hidden_size)

    @property
    def head(self) -> LinearLayer:
        """The output head. When tied, its weight is the embedding and is counted there."""
        return LinearLayer("lm_head", self.embedding_width or self.hidden_size, self.vocab_size, self.head_bias,
                           "other", quantised=False)  # fmt: skip

    @cached_property
    def parameters_by_module(self) -> dict[str, int]:
        """Parameters by module kind; the values sum to `parameters`."""
        head, blocks = self.head, self.blocks
        return {
            "embedding": self.embedding_parameters,
            "positions": self.position_parameters,
            "per-layer embeddings": self.per_layer_embedding_parameters,
            "attention": sum(b.count * (b.linear_parameters("attention") + b.other_parameters) for b in blocks),
            "mlp": sum(b.count * b.linear_parameters("mlp") for b in blocks),
            "experts": sum(b.count * b.experts.parameters for b in blocks if b.experts),
            "shared experts": sum(b.count * b.linear_parameters("shared experts") for b in blocks),
            "router": sum(b.count * (b.linear_parameters("router") + (b.experts.router_parameters if b.experts else 0))
                          for b in blocks),
            "norms": sum(b.count * b.norm_parameters for b in blocks) + self.outer_norm_parameters,
            "projections": sum(linear.parameters for linear in self.outer)
            + sum(b.count * b.linear_parameters("other") for b in blocks),
            "head": head.bias_parameters + (0 if self.tie_word_embeddings else head.weight_parameters),
        }  # fmt: skip

    @cached_property
    def parameters(self) -> int:
        """Distinct parameters: a tied head is counted once, as `model.num_parameters()` does."""
        return sum(self.parameters_by_module.values())

    @cached_property
    def _linears(self) -> tuple[tuple[LinearLayer, int], ...]:
        """Each linear layer but the head, with how many of it the model has."""
        return (*((linear, b.count) for b in self.blocks for linear in b.linears), *((x, 1) for x in self.outer))

    @cached_property
    def block_linear_parameters(self) -> int:
        """Weights that bitsandbytes quantises: of all `nn.Linear` and Conv1D but the head. Biases not included.

        Fused experts and routers are parameters of modules of their own, and stay as they are: a mixture's QLoRA saves
        little on transformers 5.
        """
        return sum(count * linear.weight_parameters for linear, count in self._linears if linear.quantised)

    @property
    def adapts_experts(self) -> bool:
        """Whether PEFT turns `all-linear` into adapters on experts too, and so passes the dense MLPs by."""
        return any(block.experts and block.experts.adapters != "none" for block in self.blocks)

    def targets(self, target_modules: str | Sequence[str]) -> tuple[tuple[LinearLayer, int], ...]:
        """The linear layers that LoRA adapts, each with how many of it the model has.

        Names match as in PEFT: on the last part of the module's name, unmatched names being ignored.
        Raises InputError when nothing matches, or for single experts, which are no layers of their own.
        """
        taken = _EXPERT_NAMES[self.adapters] if self.adapts_experts else frozenset[str]()
        if target_modules == ALL_LINEAR:
            # PEFT 0.21 turns a mixture's MLP names into its fused experts, so that its dense MLPs get no adapter.
            return tuple(pair for pair in self._linears if pair[0].name not in taken)
        wanted = {target_modules} if isinstance(target_modules, str) else set(target_modules)
        if taken & wanted:
            raise InputError(
                f"Adapters on {', '.join(sorted(wanted & taken))} alone are not estimated for experts.",
                hint=f'"{ALL_LINEAR}" adapts attention and all experts; or name attention layers only.',
            )
        found = tuple(pair for pair in [*self._linears, (self.head, 1)] if pair[0].name in wanted)
        if not found:
            names = dict.fromkeys(linear.name for linear, _ in self._linears)
            raise InputError(
                f"None of the target modules {', '.join(sorted(wanted)) or '(none given)'} is in this model.",
                hint=f'Its linear layers are {", ".join(names)}; "{ALL_LINEAR}" takes them all.',
            )
        return found

    @property
    def adapters(self) -> str:
        """The kind of PEFT's conversion for experts."""
        return next((block.experts.adapters for block in self.blocks if block.experts), "none")

    def lora_parameters(self, r: int, target_modules: str | Sequence[str]) -> int:
        """Parameters of all adapter pairs of rank `r`."""
        linears = sum(count * linear.lora_parameters(r) for linear, count in self.targets(target_modules))
        if target_modules != ALL_LINEAR:
            return linears
        return linears + sum(b.count * b.experts.lora_parameters(r) for b in self.blocks if b.experts)


# PEFT 0.21, utils/transformers_weight_conversion.py `_MOE_TARGET_MODULE_MAPPING`: old names of fused experts.
_EXPERT_NAMES: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "mixtral": frozenset({"gate", "w1", "w2", "w3"}),
    "qwen2_moe": frozenset({"gate", "gate_proj", "up_proj", "down_proj"}),
}


def architecture_from_config(config: Mapping[str, Any]) -> Architecture:
    """Read a `config.json` dict. Raises InputError for an unknown architecture or a missing field: never a guess.

    Of a config with a `text_config` the text decoder is read, where transformers' AutoModelForCausalLM builds that
    alone (Llama 4); where it builds the vision tower too (Gemma 3), the config is refused.

    The same config gives the same object, so that what was worked out for it serves the next keystroke too.
    """
    return _read(orjson.dumps(config, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS))


@lru_cache(maxsize=64)
def _read(document: bytes) -> Architecture:
    config, family = family_of(orjson.loads(document))
    read = ConfigReader(config, family.model_type)
    family = adapted(family, read)
    for field in ("hidden_size", "num_hidden_layers"):
        if not read.given(field):
            raise read.missing(field)
    hidden, vocab = read.size("hidden_size"), read.size("vocab_size")
    attention = _attention_shape(read, family, hidden)
    activation = family.fixed.get("activation") or read.text(family.activation, "silu")
    embedding = read.size(family.embedding_width, hidden) if family.embedding_width else hidden
    narrow = embedding != hidden
    projections = (("project_in", embedding, hidden), ("project_out", hidden, embedding)) if narrow else ()
    outer = tuple(LinearLayer(name, a, b, False, "other") for name, a, b in projections)
    per_layer, per_layer_norm = 0, 0
    if family.variant == "gemma3n":
        outer, per_layer, per_layer_norm = gemma3n_outer(read, hidden)
    positions = read.size(family.positions) + family.position_offset if family.positions else 0
    return Architecture(
        traits=family,
        hidden_size=hidden,
        num_attention_heads=attention.heads,
        num_key_value_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        vocab_size=vocab,
        tie_word_embeddings=read.flag("tie_word_embeddings", True),
        activation=activation,
        qk_norm=attention.qk_norm,
        blocks=_blocks(read, family, hidden, attention, activation),
        head_bias=_bias(read, family.head_bias),
        caps_logits=read.value("final_logit_softcapping") is not None,
        embedding_width=embedding if narrow else 0,
        position_parameters=positions * hidden,
        per_layer_embedding_parameters=per_layer,
        outer_norm_parameters=_outer_norms(family, hidden) + per_layer_norm,
        outer=outer,
    )


def _outer_norms(family: Family, hidden: int) -> int:
    """Numbers in the norms behind the embedding and before the head."""
    final = family.final_norm or family.norm
    embedding = norm_weights(family.embedding_norm, hidden) if family.embedding_norm else 0
    return embedding + (0 if final == "none" else norm_weights(final, hidden))


def _bias(read: ConfigReader, rule: str) -> bool:
    return rule == "yes" or (rule != "no" and read.flag(rule))


def _attention_shape(read: ConfigReader, family: Family, hidden: int) -> AttentionShape:
    heads = read.size("num_attention_heads")
    bias, out_bias = _bias(read, family.qkv_bias), _bias(read, family.out_bias)
    dropout = read.share(family.attention_dropout)
    qk_norm = family.qk_norm != "no" and (not family.qk_norm_flag or read.flag(family.qk_norm_flag))
    if family.latent:
        latent = read_latent(read)
        head_dim = latent.plain_dim + latent.rotary_dim
        return AttentionShape(heads, heads, head_dim, read.size("v_head_dim"), bias, out_bias, False, dropout,
                              latent=latent)  # fmt: skip
    given = read.value(family.head_dim) if family.head_dim else None
    if given is None and hidden % heads and family.model_type not in _FLOORED:
        raise InputError(f"{read.name('hidden_size')} = {hidden} does not divide by "
                         f"{read.name('num_attention_heads')} = {heads}.")
    head_dim = hidden // heads if given is None else read.size(family.head_dim)
    kv_heads = int(family.kv_heads) if family.kv_heads.isdigit() else heads if not family.kv_heads else \
        read.size(family.kv_heads, heads)
    softcap = family.no_sdpa and not family.sinks and read.value("attn_logit_softcapping") is not None
    return AttentionShape(heads, kv_heads, head_dim, head_dim, bias, out_bias, qk_norm, dropout, softcap)


_FLOORED = {"glm4_moe"}
"""Families that round a head's size down where the hidden size does not divide."""


def _blocks(
    read: ConfigReader, family: Family, hidden: int, attention: AttentionShape, activation: str
) -> tuple[Block, ...]:
    """The decoder blocks, grouped by shape: mixtures may keep some dense."""
    if family.variant == "gemma3n":
        return gemma3n_blocks(read, hidden, attention.queries, attention.keys, attention.head_dim)
    if family.variant == "qwen3_next":
        return qwen3_next_blocks(read, family, hidden, attention.queries, attention.keys, attention.head_dim)
    layers = read.size("num_hidden_layers")
    sparse = sparse_layers(read, family, layers)
    dense = BlockShape(
        hidden, attention, _intermediate(read, family, hidden, all(sparse)), activation, _bias(read, family.mlp_bias),
        read.share(family.dropout) if family.dropout else 0.0, None, 0,
    )
    found = []
    if any(sparse):
        experts, shared = read_experts(read, family, hidden)
        block = build_block(family, replace(dense, experts=experts, shared=shared))
        found.append(replace(block, count=sum(sparse)))
    if not all(sparse):
        found.append(replace(build_block(family, dense), count=layers - sum(sparse)))
    return tuple(found)


def _intermediate(read: ConfigReader, family: Family, hidden: int, unused: bool) -> int:
    """The dense MLP's inner size: four times the hidden size where the family leaves it to that."""
    if not family.intermediate:
        return 4 * hidden
    if unused:
        return hidden
    return read.size(family.intermediate, 4 * hidden if family.intermediate in _QUADRUPLED else None)


_QUADRUPLED = {"n_inner", "ffn_hidden_size", "intermediate_size"}
