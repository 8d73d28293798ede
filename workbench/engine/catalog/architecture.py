"""A decoder's shape read from its `config.json`: every linear layer, and the exact parameter count by module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.engine.catalog.families import FAMILIES, Bias, Family
from workbench.engine.catalog.layers import Block, Experts, LinearLayer
from workbench.engine.errors import InputError

ALL_LINEAR = "all-linear"
"""PEFT's name for "every linear layer but the output head"."""

# Larger than any published model by orders of magnitude: catches a wrong unit or a hostile file, nothing else.
_LARGEST_DIMENSION = 100_000_000


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder-only language model, as far as counting its bytes needs it."""

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
        """Numbers in the token embedding, [vocab, hidden]."""
        return self.vocab_size * self.hidden_size

    @property
    def head(self) -> LinearLayer:
        """The output head. When tied, its weight is the embedding and is counted there."""
        return LinearLayer("lm_head", self.hidden_size, self.vocab_size, self.traits.head_bias)

    @property
    def parameters_by_module(self) -> dict[str, int]:
        """Parameters by module kind; the values sum to `parameters`."""
        head = self.head
        final_norm = self.hidden_size * (2 if self.traits.layer_norm else 1)
        return {
            "embedding": self.embedding_parameters,
            "attention": sum(b.count * linear.parameters for b in self.blocks for linear in b.attention),
            "mlp": sum(b.count * linear.parameters for b in self.blocks for linear in b.mlp),
            "experts": sum(b.count * b.experts.parameters for b in self.blocks if b.experts),
            "router": sum(b.count * b.experts.router_parameters for b in self.blocks if b.experts),
            "norms": sum(b.count * b.norm_parameters for b in self.blocks) + final_norm,
            "head": head.bias_parameters + (0 if self.tie_word_embeddings else head.weight_parameters),
        }

    @property
    def parameters(self) -> int:
        """Distinct parameters: a tied head is counted once, as `model.num_parameters()` does."""
        return sum(self.parameters_by_module.values())

    @property
    def block_linear_parameters(self) -> int:
        """Weights of all linear layers inside blocks: what bitsandbytes quantises. Biases not included."""
        return sum(b.count * linear.weight_parameters for b in self.blocks for linear in b.linears)

    def targets(self, target_modules: str | Sequence[str]) -> tuple[tuple[LinearLayer, int], ...]:
        """The linear layers that LoRA adapts, each with how many of it the model has.

        Names match as in PEFT: on the last part of the module's name, unmatched names being ignored.
        Raises InputError when nothing matches, or for single experts, which are no layers of their own.
        """
        in_blocks = [(linear, b.count) for b in self.blocks for linear in b.linears]
        mixture = any(block.experts for block in self.blocks)
        if target_modules == ALL_LINEAR:
            # PEFT 0.21 turns a mixture's MLP names into its fused experts, so that its dense MLPs get no adapter.
            return tuple(pair for pair in in_blocks if not (mixture and pair[0].name in _EXPERT_NAMES))
        wanted = {target_modules} if isinstance(target_modules, str) else set(target_modules)
        if mixture and wanted & _EXPERT_NAMES:
            raise InputError(
                f"Adapters on {', '.join(sorted(wanted & _EXPERT_NAMES))} alone are not estimated for experts.",
                hint=f'"{ALL_LINEAR}" adapts attention and all experts; or name attention layers only.',
            )
        found = tuple(pair for pair in [*in_blocks, (self.head, 1)] if pair[0].name in wanted)
        if not found:
            names = dict.fromkeys(linear.name for linear, _ in in_blocks)
            raise InputError(
                f"None of the target modules {', '.join(sorted(wanted)) or '(none given)'} is in this model.",
                hint=f'Its linear layers are {", ".join(names)}; "{ALL_LINEAR}" takes them all.',
            )
        return found

    def lora_parameters(self, r: int, target_modules: str | Sequence[str]) -> int:
        """Parameters of all adapter pairs of rank `r`."""
        linears = sum(count * linear.lora_parameters(r) for linear, count in self.targets(target_modules))
        if target_modules != ALL_LINEAR:
            return linears
        return linears + sum(b.count * b.experts.lora_parameters(r) for b in self.blocks if b.experts)


_EXPERT_NAMES = {"gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3", "gate"}


def architecture_from_config(config: Mapping[str, Any]) -> Architecture:
    """Read a `config.json` dict. Raises InputError for an unknown architecture or a missing field: never a guess."""
    family = _family_of(config)
    read = _Reader(config, family.model_type)
    hidden = read.size("hidden_size")
    heads = read.size("num_attention_heads")
    kv_heads = read.size("num_key_value_heads", heads if family.kv_heads is None else family.kv_heads)
    if config.get("head_dim") is None and family.head_dim is None and hidden % heads:
        raise InputError(f"hidden_size {hidden} does not divide by num_attention_heads {heads}.")
    head_dim = read.size("head_dim", family.head_dim or hidden // heads)
    return Architecture(
        traits=family,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=read.flag("tie_word_embeddings", family.tied),
        activation=str(config.get("hidden_activation") or config.get("hidden_act") or family.activation),
        qk_norm=family.qk_norm in ("head", "full") or _phi_qk_norm(read, family),
        blocks=_blocks(read, family, hidden, heads * head_dim, kv_heads * head_dim, head_dim),
    )


def _family_of(config: Mapping[str, Any]) -> Family:
    model_type = config.get("model_type")
    declared = config.get("architectures")
    names = [name for name in declared if isinstance(name, str)] if isinstance(declared, list) else []
    for family in FAMILIES.values():
        if family.model_class in names:
            return family
    if not names and isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    shown = ", ".join(names) or model_type or "of a config without architectures and model_type"
    raise InputError(
        f"The architecture {shown} is not known to the estimate.",
        hint=f"Known families: {', '.join(FAMILIES)}. Another needs one row in engine/catalog/families.py.",
    )


def _blocks(
    read: "_Reader", family: Family, hidden: int, queries: int, keys: int, head_dim: int
) -> tuple[Block, ...]:
    """The decoder blocks, grouped by shape: mixtures may keep some dense."""
    attention = _attention(read, family, hidden, queries, keys)
    norms = family.norms_per_block * hidden * (2 if family.layer_norm else 1)
    if family.qk_norm == "full":
        norms += queries + keys
    elif family.qk_norm == "head":
        norms += 2 * head_dim
    elif _phi_qk_norm(read, family):
        norms += 4 * head_dim
    layers, intermediate = read.size("num_hidden_layers"), read.size("intermediate_size")
    sparse_layers = _sparse_layers(read, layers) if family.experts_field else 0
    dense = Block(layers - sparse_layers, attention, _mlp(read, family, hidden, intermediate), norms, intermediate)
    if family.experts_field is None:
        return (dense,)
    size = read.size(family.expert_size_field)
    experts = Experts(read.size(family.experts_field), read.size("num_experts_per_tok"), hidden, size)
    sparse = Block(sparse_layers, attention, (), norms, size, experts)
    return tuple(block for block in (sparse, dense) if block.count)


def _sparse_layers(read: "_Reader", layers: int) -> int:
    """How many blocks route to experts (Qwen-MoE's `decoder_sparse_step` and `mlp_only_layers`)."""
    step = read.size("decoder_sparse_step", 1)
    kept_dense = read.config.get("mlp_only_layers") or []
    return sum(1 for i in range(layers) if (i + 1) % step == 0 and i not in kept_dense)


def _attention(
    read: "_Reader", family: Family, hidden: int, queries: int, keys: int
) -> tuple[LinearLayer, ...]:
    bias = read.bias(family.qkv_bias, "attention_bias")
    out = LinearLayer(family.out_name, queries, hidden, read.bias(family.out_bias, "attention_bias"))
    if family.fused:
        return (LinearLayer("qkv_proj", hidden, queries + 2 * keys, bias), out)
    return (
        LinearLayer("q_proj", hidden, queries, bias),
        LinearLayer("k_proj", hidden, keys, bias),
        LinearLayer("v_proj", hidden, keys, bias),
        out,
    )


def _mlp(read: "_Reader", family: Family, hidden: int, intermediate: int) -> tuple[LinearLayer, ...]:
    bias = read.bias(family.mlp_bias, "mlp_bias")
    if not family.gated_mlp:
        return (LinearLayer("fc1", hidden, intermediate, bias), LinearLayer("fc2", intermediate, hidden, bias))
    down = LinearLayer("down_proj", intermediate, hidden, bias)
    if family.fused:
        return (LinearLayer("gate_up_proj", hidden, 2 * intermediate, bias), down)
    gate = LinearLayer("gate_proj", hidden, intermediate, bias)
    return (gate, LinearLayer("up_proj", hidden, intermediate, bias), down)


def _phi_qk_norm(read: "_Reader", family: Family) -> bool:
    return family.qk_norm == "config" and read.flag("qk_layernorm", False)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads checked fields of one config; errors name the field and the family."""

    config: Mapping[str, Any]
    model_type: str

    def size(self, field: str, default: int | None = None) -> int:
        value = self.config.get(field, default)
        if value is None:
            value = default
        if value is None:
            raise InputError(f"The {self.model_type} config has no {field}.", hint="Is this the whole config.json?")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST_DIMENSION:
            raise InputError(f"The {self.model_type} config has {field} = {value!r}, which is no positive whole size.")
        return value

    def flag(self, field: str, default: bool) -> bool:
        value = self.config.get(field, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InputError(f"The {self.model_type} config has {field} = {value!r}, neither true nor false.")
        return value

    def bias(self, rule: Bias, field: str) -> bool:
        return self.flag(field, False) if rule == "config" else rule == "yes"
