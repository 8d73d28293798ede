"""Decoder blocks of a family: attention, MLP or experts, and the norms around them, as transformers runs them."""

from collections.abc import Callable
from dataclasses import dataclass

from workbench.engine.catalog.attention import AttentionShape, attend
from workbench.engine.catalog.builder import BlockBuilder
from workbench.engine.catalog.families import Family
from workbench.engine.catalog.layers import Experts, Part
from workbench.engine.catalog.operations import Block
from workbench.engine.catalog.reader import ConfigReader
from workbench.engine.errors import InputError


@dataclass(frozen=True, slots=True)
class BlockShape:
    """Everything that decides about one block, read from the config."""

    hidden: int
    attention: AttentionShape
    intermediate: int
    activation: str
    mlp_bias: bool
    dropout: float
    experts: Experts | None
    """None: this layer keeps a dense MLP."""
    shared: int
    """Intermediate size of the shared experts together; 0 without any."""


def build_block(family: Family, shape: BlockShape) -> Block:
    """One block: the residual stream through attention and MLP, in the order of the model's forward."""
    b = BlockBuilder(shape.hidden)
    b.other_parameters = family.layer_parameters
    if family.residual.startswith("parallel"):
        _parallel(b, family, shape)
    else:
        x = _joined(b, family, shape, 0, lambda h: attend(b, family, shape.attention, h))
        _joined(b, family, shape, x, lambda h: _feed_forward(b, family, shape, h))
    return b.build()


def _joined(b: BlockBuilder, family: Family, shape: BlockShape, x: int,
            part: Callable[[int], int]) -> int:  # fmt: skip
    """One residual branch: norms where the family has them, dropout and scale, the sum."""
    before = family.residual in ("pre", "sandwich")
    given = b.norm(x, family.norm) if before else x
    y = part(given)
    b.release(given)
    y = b.dropout(y, shape.dropout)
    if family.residual in ("sandwich", "post"):
        y = b.norm(y, family.norm)
    y = b.add(x, b.scale(y, family.residual_scale))
    return b.norm(y, family.norm) if family.residual == "after" else y


def _parallel(b: BlockBuilder, family: Family, shape: BlockShape) -> None:
    first = b.norm(0, family.norm)
    second = b.norm(0, family.norm) if family.residual == "parallel, two norms" else first
    attended = b.dropout(attend(b, family, shape.attention, first), shape.dropout)
    b.release(first)
    fed = b.dropout(_feed_forward(b, family, shape, second), shape.dropout)
    b.release(second)
    b.add(b.add(0, attended), fed)


def _feed_forward(b: BlockBuilder, family: Family, shape: BlockShape, x: int) -> int:
    if shape.experts is None:
        return _mlp(b, family, shape, x, shape.intermediate)
    return _mixture(b, family, shape, x, shape.experts)


def _mlp(b: BlockBuilder, family: Family, shape: BlockShape, x: int, size: int, part: Part = "mlp",
         names: tuple[str, ...] = ()) -> int:  # fmt: skip
    names, bias, quantised = names or family.mlp, shape.mlp_bias, family.quantised
    if not family.gated:
        inner = b.activation(b.linear(x, names[0], size, bias, part, quantised), shape.activation)
    elif len(names) == 2:
        gate, up = b.split(b.linear(x, names[0], 2 * size, bias, part, quantised), size, size)
        inner = b.multiply(up, b.activation(gate, shape.activation))
    else:
        gate = b.activation(b.linear(x, names[0], size, bias, part, quantised), shape.activation)
        inner = b.multiply(gate, b.linear(x, names[1], size, bias, part, quantised))
    if family.inner_norms:
        inner = b.norm(inner, family.norm)
    return b.linear(inner, names[-1], shape.hidden, bias, part, quantised)


def _mixture(b: BlockBuilder, family: Family, shape: BlockShape, x: int, experts: Experts) -> int:
    """transformers' grouped product (integrations/moe.py): each token is copied to its experts, sorted by expert."""
    mixture = family.mixture
    assert mixture is not None
    b.experts = experts
    copies, inner = experts.experts_per_token, experts.intermediate_size
    z = _shared(b, family, shape, x) if shape.shared and mixture.shared_first else None
    if mixture.router_layer:
        logits = b.linear(x, mixture.router_layer, experts.num_experts, part="router", quantised=False)
    else:
        fp32 = "fp32, uncast" if mixture.router_uncast else "fp32" if mixture.router_fp32 else ""
        logits = b.op("router", (x,), experts.num_experts, variant=fp32)
    weights = b.op("choose", (logits,), copies, heads=experts.num_experts,
                   variant="fp32" if mixture.weights_fp32 else "cast" if mixture.router_uncast else "")  # fmt: skip
    chosen = b.op("gather", (x,), copies * shape.hidden)
    bias = b.op("bias", (chosen,), copies * 2 * inner) if mixture.bias else chosen
    product = b.op("experts", (chosen,), copies * 2 * inner)
    gate, up = b.split(product, copies * inner, copies * inner, slices=mixture.clamped)
    gated = _clamped(b, gate, up) if mixture.clamped else b.multiply(b.activation(gate, shape.activation), up)
    b.release(bias)
    returned = b.op("experts", (gated,), copies * shape.hidden)
    weighed = b.op("weigh", (returned, weights), copies * shape.hidden)
    y = b.op("scatter", (weighed,), shape.hidden)
    b.release(chosen)
    if not shape.shared:
        return y
    z = _shared(b, family, shape, x) if z is None else z
    if mixture.shared_gate:
        gate_value = b.linear(x, "shared_expert_gate", 1, part="shared experts")
        z = b.op("multiply", (z, b.activation(gate_value, "sigmoid")), shape.hidden)
    return b.add(y, z)


def _shared(b: BlockBuilder, family: Family, shape: BlockShape, x: int) -> int:
    """The shared experts: one MLP for every token."""
    fused = family.mixture is not None and family.mixture.shared_fused
    names = ("input_linear", "output_linear") if fused else family.mlp
    return _mlp(b, family, shape, x, shape.shared, "shared experts", names)


def _clamped(b: BlockBuilder, gate: int, up: int) -> int:
    """GPT-OSS's gate, `(clamp(up) + 1) * (clamp(gate) * sigmoid(alpha * clamp(gate)))`, each step a tensor."""
    gate, up = b.activation(gate, "clamp"), b.activation(up, "clamp")
    glu = b.multiply(gate, b.activation(b.scale(gate), "sigmoid"))
    gated = b.multiply(b.scale(up), glu)
    b.release(up)
    return gated


def read_experts(read: ConfigReader, family: Family, hidden: int) -> tuple[Experts, int]:
    """A mixture's experts, and the intermediate size of its shared ones. Raises InputError."""
    mixture = family.mixture
    assert mixture is not None
    size, number = read.size(mixture.size), read.size(mixture.experts)
    per_token = read.size(mixture.per_token)
    if per_token > number:
        raise InputError(f"The {family.model_type} config has {read.name(mixture.per_token)} = {per_token} of only "
                         f"{read.name(mixture.experts)} = {number}.")
    experts = Experts(number, per_token, hidden, size, mixture.bias, mixture.router_bias,
                      not mixture.router_layer, mixture.adapters)  # fmt: skip
    match mixture.shared:
        case "counted":
            return experts, size * read.count(mixture.shared_field)
        case "sized":
            return experts, read.count(mixture.shared_field)
        case "same":
            return experts, size
    return experts, 0


def sparse_layers(read: ConfigReader, family: Family, layers: int) -> tuple[bool, ...]:
    """Which of the layers route to experts."""
    mixture = family.mixture
    if mixture is None:
        return (False,) * layers
    match mixture.layers:
        case "step":
            step, dense = read.size("decoder_sparse_step", 1), read.indices("mlp_only_layers")
            return tuple((i + 1) % step == 0 and i not in dense for i in range(layers))
        case "first dense":
            first = read.count("first_k_dense_replace")
            return tuple(i >= first for i in range(layers))
        case "listed":
            first = read.count("first_k_dense_replace", 1)
            kinds = read.items("mlp_layer_types", layers)
            return tuple(i >= first if kinds is None else kinds[i] == "sparse" for i in range(layers))
        case "ernie":
            interval, start = read.size("moe_layer_interval", 1), read.count("moe_layer_start_index")
            end = read.value("moe_layer_end_index")
            last = layers - 1 if not isinstance(end, int) or end < 0 else end
            return tuple((i + 1) % interval == 0 and start <= i <= last for i in range(layers))
        case "llama4":
            step = read.size("interleave_moe_layer_step", 1)
            listed = read.indices("moe_layers") if read.given("moe_layers") else range(step - 1, layers, step)
            return tuple(i in listed for i in range(layers))
    return (True,) * layers
