"""A decoder's shape read from its `config.json`: every linear layer, and the exact parameter count by module kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workbench.engine.catalog.families import FAMILIES, Family, family_names
from workbench.engine.errors import InputError

ALL_LINEAR = "all-linear"
"""PEFT's name for "every linear layer but the output head"."""

# Larger than any published model by orders of magnitude: catches a wrong unit or a hostile file, nothing else.
_LARGEST_DIMENSION = 100_000_000

MlpKind = Literal["gated", "plain"]


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """One `nn.Linear`, named as in the model: `y = x W^T + b` with `W` of shape [out_features, in_features]."""

    name: str
    in_features: int
    out_features: int
    bias: bool = False

    @property
    def weight_parameters(self) -> int:
        return self.in_features * self.out_features

    @property
    def bias_parameters(self) -> int:
        return self.out_features if self.bias else 0

    @property
    def parameters(self) -> int:
        return self.weight_parameters + self.bias_parameters


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture-of-experts MLP. transformers 5 keeps all experts of a block in two fused tensors, not `nn.Linear`."""

    num_experts: int
    experts_per_token: int
    hidden_size: int
    intermediate_size: int

    @property
    def router_parameters(self) -> int:
        return self.num_experts * self.hidden_size

    @property
    def parameters(self) -> int:
        """Gate, up and down projections of every expert, without the router."""
        return 3 * self.num_experts * self.hidden_size * self.intermediate_size


@dataclass(frozen=True, slots=True)
class Block:
    """`count` decoder blocks of one shape. `attention` and `mlp` list the linear layers in the order they run."""

    count: int
    attention: tuple[LinearLayer, ...]
    mlp: tuple[LinearLayer, ...]
    norm_parameters: int
    intermediate_size: int
    experts: Experts | None = None

    @property
    def linears(self) -> tuple[LinearLayer, ...]:
        return self.attention + self.mlp

    @property
    def parameters(self) -> int:
        """Parameters of one block."""
        experts = self.experts.parameters + self.experts.router_parameters if self.experts else 0
        return sum(linear.parameters for linear in self.linears) + experts + self.norm_parameters


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder-only language model, as far as counting its bytes needs it."""

    family: str
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    blocks: tuple[Block, ...]
    final_norm_parameters: int
    mlp_kind: MlpKind
    parallel_residual: bool
    qk_norm: bool
    norms_per_block: int
    layer_norm: bool
    head_bias: bool = False

    @property
    def num_hidden_layers(self) -> int:
        return sum(block.count for block in self.blocks)

    @property
    def embedding_parameters(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def head(self) -> LinearLayer:
        """The output head. When tied, its weight is the embedding and is counted there."""
        return LinearLayer("lm_head", self.hidden_size, self.vocab_size, self.head_bias)

    @property
    def parameters_by_module(self) -> dict[str, int]:
        """Parameters by module kind; the values sum to `parameters`."""
        head = self.head
        return {
            "embedding": self.embedding_parameters,
            "attention": sum(b.count * linear.parameters for b in self.blocks for linear in b.attention),
            "mlp": sum(b.count * linear.parameters for b in self.blocks for linear in b.mlp),
            "experts": sum(b.count * b.experts.parameters for b in self.blocks if b.experts),
            "router": sum(b.count * b.experts.router_parameters for b in self.blocks if b.experts),
            "norms": sum(b.count * b.norm_parameters for b in self.blocks) + self.final_norm_parameters,
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
        Raises InputError when nothing matches.
        """
        in_blocks = [(linear, b.count) for b in self.blocks for linear in b.linears]
        if target_modules == ALL_LINEAR:
            return tuple(in_blocks)
        wanted = {target_modules} if isinstance(target_modules, str) else set(target_modules)
        found = tuple(pair for pair in [*in_blocks, (self.head, 1)] if pair[0].name in wanted)
        if not found:
            names = dict.fromkeys(linear.name for linear, _ in in_blocks)
            raise InputError(
                f"None of the target modules {', '.join(sorted(wanted)) or '(none given)'} is in this model.",
                hint=f'Its linear layers are {", ".join(names)}; "{ALL_LINEAR}" takes them all.',
            )
        return found

    def lora_parameters(self, r: int, target_modules: str | Sequence[str]) -> int:
        """Adapter parameters: A is [r, in] and B is [out, r] for each adapted linear layer."""
        return sum(
            count * r * (la.in_features + la.out_features) for la, count in self.targets(target_modules)
        )


def architecture_from_config(config: Mapping[str, Any]) -> Architecture:
    """Read a `config.json` dict. Raises InputError for an unknown architecture or a missing field: never a guess."""
    family = _family_of(config)
    read = _Reader(config, family.model_type)
    hidden = read.size("hidden_size")
    heads = read.size("num_attention_heads")
    kv_heads = read.size("num_key_value_heads", heads if family.kv_heads is None else family.kv_heads)
    if "head_dim" not in config and family.head_dim is None and hidden % heads:
        raise InputError(f"hidden_size {hidden} does not divide by num_attention_heads {heads}.")
    head_dim = read.size("head_dim", family.head_dim or hidden // heads)
    norm_size = hidden * (2 if family.norm_bias else 1)
    return Architecture(
        family=family.model_type,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=read.flag("tie_word_embeddings", family.tied),
        blocks=_blocks(read, family, hidden, heads, kv_heads, head_dim),
        final_norm_parameters=norm_size,
        mlp_kind="gated" if family.gated_mlp else "plain",
        parallel_residual=family.parallel_residual,
        qk_norm=family.qk_norm in ("head", "full")
        or (family.qk_norm == "config" and read.flag("qk_layernorm", False)),
        norms_per_block=family.norms_per_block,
        layer_norm=family.norm_bias,
        head_bias=family.head_bias,
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
    shown = ", ".join(names) or (
        repr(model_type) if model_type else "a config without architectures and model_type"
    )
    raise InputError(
        f"The architecture {shown} is not known to the estimate.",
        hint=f"Known families: {family_names()}. Another needs one row in engine/catalog/families.py.",
    )


def _blocks(
    read: "_Reader", family: Family, hidden: int, heads: int, kv_heads: int, head_dim: int
) -> tuple[Block, ...]:
    """The decoder blocks, grouped by shape: mixtures may keep some dense."""
    attention = _attention(read, family, hidden, heads * head_dim, kv_heads * head_dim)
    norms = family.norms_per_block * hidden * (2 if family.norm_bias else 1)
    if family.qk_norm == "head":
        norms += 2 * head_dim
    elif family.qk_norm == "full":
        norms += (heads + kv_heads) * head_dim
    elif family.qk_norm == "config" and read.flag("qk_layernorm", False):
        norms += 4 * head_dim
    layers = read.size("num_hidden_layers")
    intermediate = read.size("intermediate_size")
    dense = Block(layers, attention, _mlp(read, family, hidden, intermediate), norms, intermediate)
    if family.experts_field is None:
        return (dense,)
    expert_size = read.size(family.expert_size_field)
    experts = Experts(read.size(family.experts_field), read.size("num_experts_per_tok"), hidden, expert_size)
    sparse_layers = _sparse_layers(read, layers)
    sparse = Block(sparse_layers, attention, (), norms, expert_size, experts)
    dense = Block(layers - sparse_layers, attention, dense.mlp, norms, intermediate)
    return tuple(block for block in (sparse, dense) if block.count)


def _sparse_layers(read: "_Reader", layers: int) -> int:
    """How many blocks route to experts (Qwen-MoE's `decoder_sparse_step` and `mlp_only_layers`)."""
    step = read.size("decoder_sparse_step", 1)
    kept_dense = read.config.get("mlp_only_layers") or []
    return sum(1 for i in range(layers) if (i + 1) % step == 0 and i not in kept_dense)


def _attention(
    read: "_Reader", family: Family, hidden: int, q_size: int, kv_size: int
) -> tuple[LinearLayer, ...]:
    declared = read.flag("attention_bias", False)
    qkv_bias = family.qkv_bias == "yes" or (family.qkv_bias == "config" and declared)
    out_bias = family.out_bias == "yes" or (family.out_bias == "config" and declared)
    out = LinearLayer(family.out_name, q_size, hidden, out_bias)
    if family.fused:
        return (LinearLayer("qkv_proj", hidden, q_size + 2 * kv_size, qkv_bias), out)
    return (
        LinearLayer("q_proj", hidden, q_size, qkv_bias),
        LinearLayer("k_proj", hidden, kv_size, qkv_bias),
        LinearLayer("v_proj", hidden, kv_size, qkv_bias),
        out,
    )


def _mlp(read: "_Reader", family: Family, hidden: int, intermediate: int) -> tuple[LinearLayer, ...]:
    bias = family.mlp_bias == "yes" or (family.mlp_bias == "config" and read.flag("mlp_bias", False))
    if not family.gated_mlp:
        return (
            LinearLayer("fc1", hidden, intermediate, bias),
            LinearLayer("fc2", intermediate, hidden, bias),
        )
    down = LinearLayer("down_proj", intermediate, hidden, bias)
    if family.fused:
        return (LinearLayer("gate_up_proj", hidden, 2 * intermediate, bias), down)
    return (
        LinearLayer("gate_proj", hidden, intermediate, bias),
        LinearLayer("up_proj", hidden, intermediate, bias),
        down,
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads checked fields of one config; errors name the field and the family."""

    config: Mapping[str, Any]
    model_type: str

    def size(self, field: str, default: int | None = None) -> int:
        value = self.config.get(field)
        if value is None:
            if default is None:
                raise InputError(
                    f"The {self.model_type} config has no {field}.", hint="Is this the whole config.json?"
                )
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST_DIMENSION:
            raise InputError(
                f"The {self.model_type} config has {field} = {value!r}, which is not a positive whole size."
            )
        return value

    def flag(self, field: str, default: bool) -> bool:
        value = self.config.get(field, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InputError(
                f"The {self.model_type} config has {field} = {value!r}, which is neither true nor false."
            )
        return value
