"""Families whose parameters are counted but whose activations are not described: their blocks list no operations.

Gemma 3n's AltUp keeps several residual streams; Qwen3-Next's gated delta net keeps states by chunk of the sequence.
"""

from collections import Counter

from workbench.engine.catalog.decoder import read_experts, sparse_layers
from workbench.engine.catalog.families import Family
from workbench.engine.catalog.layers import LinearLayer, Part
from workbench.engine.catalog.operations import Block
from workbench.engine.catalog.reader import ConfigReader
from workbench.engine.errors import InputError


def _block(count: int, linears: tuple[LinearLayer, ...], norms: int, other: int) -> Block:
    return Block(count, linears, norms, (), (), None, other)


def _layers(part: Part, *shapes: tuple[str, int, int]) -> tuple[LinearLayer, ...]:
    return tuple(LinearLayer(name, inside, outside, part=part) for name, inside, outside in shapes)


def _gated(part: Part, hidden: int, size: int) -> tuple[LinearLayer, ...]:
    return _layers(part, ("gate_proj", hidden, size), ("up_proj", hidden, size), ("down_proj", size, hidden))


def gemma3n_blocks(read: ConfigReader, hidden: int, queries: int, keys: int, head_dim: int) -> tuple[Block, ...]:
    """Layers differ in their MLP's size, and the last ones read the keys and values of earlier ones."""
    layers, streams, rank = read.size("num_hidden_layers"), read.size("altup_num_inputs"), read.size("laurel_rank")
    sizes = _sizes(read, layers)
    shared_from = layers - read.count("num_kv_shared_layers")
    narrow = read.size("hidden_size_per_layer_input")
    found = []
    for (size, shares), count in Counter((sizes[i], i >= shared_from > 0) for i in range(layers)).items():
        key_values = () if shares else _layers("attention", ("k_proj", hidden, keys), ("v_proj", hidden, keys))
        linears = (
            *_layers("attention", ("q_proj", hidden, queries), ("o_proj", queries, hidden)), *key_values,
            *_gated("mlp", hidden, size),
            *_layers("other", ("correction_coefs", streams, streams), ("prediction_coefs", streams, streams**2),
                     ("modality_router", hidden, streams), ("linear_left", hidden, rank),
                     ("linear_right", rank, hidden), ("per_layer_input_gate", hidden, narrow),
                     ("per_layer_projection", narrow, hidden)),
        )  # fmt: skip
        # Four norms of the block, the router's, LAuReL's and the per-layer input's; AltUp's output scale.
        found.append(_block(count, linears, 7 * hidden + head_dim * (1 if shares else 2), hidden))
    return tuple(found)


def _sizes(read: ConfigReader, layers: int) -> tuple[int, ...]:
    """The MLP's size of each layer: one number for all, or a list."""
    if not isinstance(read.value("intermediate_size"), list):
        return (read.size("intermediate_size"),) * layers
    sizes = read.items("intermediate_size", layers) or ()
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError("The gemma3n_text config has an intermediate_size that is no list of sizes.")
    return tuple(sizes)


def gemma3n_outer(read: ConfigReader, hidden: int) -> tuple[tuple[LinearLayer, ...], int, int]:
    """What stands outside the blocks: linear layers, numbers in the per-layer embedding, and in its norm."""
    narrow = read.size("hidden_size_per_layer_input")
    wide = narrow * read.size("num_hidden_layers")
    further = read.size("altup_num_inputs") - 1
    # Lists of projections, named by their number. transformers quantises all but the module of the last parameter.
    projections = [LinearLayer(str(i % further), hidden, hidden, part="other", quantised=i + 1 < 2 * further)
                   for i in range(2 * further)]  # fmt: skip
    linears = (*_layers("other", ("per_layer_model_projection", hidden, wide)), *projections)
    return linears, read.size("vocab_size_per_layer_input") * wide, narrow


def qwen3_next_blocks(
    read: ConfigReader, family: Family, hidden: int, queries: int, keys: int, head_dim: int
) -> tuple[Block, ...]:
    """Gated delta nets, with full attention in between; each routes to experts or keeps a dense MLP."""
    layers = read.size("num_hidden_layers")
    kinds = read.items("layer_types", layers) or [
        "full_attention" if (i + 1) % read.size("full_attention_interval", 4) == 0 else "linear_attention"
        for i in range(layers)
    ]
    key_dim = read.size("linear_num_key_heads") * read.size("linear_key_head_dim")
    value_heads, value_head = read.size("linear_num_value_heads"), read.size("linear_value_head_dim")
    value_dim = value_heads * value_head
    delta = _layers("attention", ("in_proj_qkvz", hidden, 2 * key_dim + 2 * value_dim),
                    ("in_proj_ba", hidden, 2 * value_heads), ("out_proj", value_dim, hidden))  # fmt: skip
    convolution = (2 * key_dim + value_dim) * read.size("linear_conv_kernel_dim")
    full = _layers("attention", ("q_proj", hidden, 2 * queries), ("k_proj", hidden, keys), ("v_proj", hidden, keys),
                   ("o_proj", queries, hidden))  # fmt: skip
    experts, shared = read_experts(read, family, hidden)
    gate = LinearLayer("shared_expert_gate", hidden, 1, part="shared experts")
    sparse_mlp = (*_gated("shared experts", hidden, shared), gate)
    dense_mlp = _gated("mlp", hidden, read.size("intermediate_size"))
    found = []
    for (kind, sparse), count in Counter(zip(kinds, sparse_layers(read, family, layers), strict=True)).items():
        linear = kind == "linear_attention"
        linears = (*(delta if linear else full), *(sparse_mlp if sparse else dense_mlp))
        norms = 2 * hidden + (value_head if linear else 2 * head_dim)
        other = convolution + 2 * value_heads if linear else 0
        found.append(Block(count, linears, norms, (), (), experts if sparse else None, other))
    return tuple(found)
