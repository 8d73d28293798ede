"""The terms of the estimate: each a small function in bytes, with the reason for every constant beside it.

Symbols: N tokens in a micro-batch, H hidden size, I intermediate size, V vocabulary, S sequence length.
Rows "fms" are those of fms-acceleration's A100 benchmark (torch 2.4, transformers 4.45), which fix what the code
of transformers, trl, peft and bitsandbytes leaves open.
"""

import math
from dataclasses import dataclass

from workbench.engine.catalog.architecture import Architecture, Block, LinearLayer
from workbench.engine.errors import InputError
from workbench.engine.memory.case import MemoryCase, Precision

GIB = 1024**3

# cuBLAS keeps one workspace per (thread, stream): forward and backward run on two threads. 8.125 MiB each is torch's
# default before Hopper (`:4096:2:16:8`, aten/src/ATen/cuda/CublasHandlePool.cpp); fms rows show 16.5 MB.
CUBLAS_WORKSPACES = 2 * 8_519_680

# Context, kernels and driver: outside the allocator. Seen between 0.3 and 0.6 GiB.
CUDA_CONTEXT = GIB // 2

# bitsandbytes: blocks of 64 weights share one fp32 scale; double quantisation stores the scales in 8 bits, in blocks
# of 256 (functional.quantize_4bit, compress_statistics).
NF4_BYTES = 0.5 + 4 / 64
NF4_DOUBLE_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)

# trl 1.16: kernels/chunked_logprob.py TOKEN_CHUNK_SIZE, trainer/utils.py _CHUNKED_LOGPROB_CHUNK_SIZE.
FUSED_TOKENS = 4096
FUSED_COLUMNS = 32768

# Full logits, per logit: fp32 logits, their shifted copy and log-softmax on the way forward; log-softmax and two
# gradients on the way back: 12 bytes either way. fms rows of PowerLM-3b give 12.00.
FULL_LOGITS_BYTES = 12


def base_weights(architecture: Architecture, precision: Precision) -> float:
    """Bytes of the base model. Only linear layers inside blocks are quantised; their biases stay 16-bit."""
    linears = architecture.block_linear_parameters
    others = architecture.parameters - linears
    norms = architecture.parameters_by_module["norms"] if precision.stream > precision.weight else 0
    kept = others * precision.weight + norms * (precision.stream - precision.weight)
    match precision.quantization:
        case "nf4":
            return kept + linears * NF4_BYTES
        case "nf4-double":
            return kept + linears * NF4_DOUBLE_BYTES
        case "int8":  # one fp32 scale per output row
            rows = sum(b.count * linear.out_features for b in architecture.blocks for linear in b.linears)
            return kept + linears + 4 * rows
    return kept + linears * precision.weight


@dataclass(frozen=True, slots=True)
class Optimizer:
    """What an optimizer holds: `state` bytes per trained number (None: two moments in the weight's own type), and
    whether its step makes one more copy of all trained weights."""

    state: float | None
    step_copy: bool = False


# Block-wise 8-bit states: 1 byte and one fp32 scale per 256 numbers, twice (bitsandbytes optim.Optimizer2State).
# Paged states live in unified memory, outside torch's allocator.
_EIGHT_BIT_MOMENT = 1 + 4 / 256
OPTIMIZERS: dict[str, Optimizer] = {
    "adamw_torch": Optimizer(None, step_copy=True),  # foreach: _foreach_sqrt of the second moment
    "adamw_torch_fused": Optimizer(None),
    "adamw_bnb_8bit": Optimizer(2 * _EIGHT_BIT_MOMENT),
    "adamw_8bit": Optimizer(2 * _EIGHT_BIT_MOMENT),
    "paged_adamw_8bit": Optimizer(0),
    "paged_adamw_32bit": Optimizer(0),
    "lion_32bit": Optimizer(4),
    "lion_8bit": Optimizer(_EIGHT_BIT_MOMENT),
    "paged_lion_8bit": Optimizer(0),
    "paged_lion_32bit": Optimizer(0),
    "sgd": Optimizer(0),
}


def optimizer_of(case: MemoryCase) -> Optimizer:
    """Raises InputError for an optimizer whose memory is not known."""
    if case.optim not in OPTIMIZERS:
        raise InputError(
            f"The memory of the optimizer {case.optim!r} is not estimated yet.",
            hint=f"Estimated today: {', '.join(OPTIMIZERS)}.",
        )
    return OPTIMIZERS[case.optim]


def norm_saved(size: int, precision: Precision, layer_norm: bool, trained: bool) -> int:
    """Bytes per token that one norm keeps for its backward, its output not included."""
    if layer_norm:
        return precision.stream * size + 8  # the input, mean and 1/std (native_layer_norm)
    # RMSNorm in transformers: an fp32 copy of the input, and the normalised value when the weight is trained.
    return 4 * size + (precision.stream * size if trained else 0)


def adapter_input(linear: LinearLayer, case: MemoryCase, precision: Precision) -> float:
    """Bytes per token that the adapter of one linear layer keeps as its own copy of the input."""
    dropout = linear.in_features * (1 + precision.compute) if case.lora_dropout > 0 else 0
    if precision.quantization != "none":
        return (
            dropout  # Linear4bit under autocast does not cast: the shared input is kept, see `shared_input`
        )
    if dropout:
        return dropout
    if precision.autocast:
        return linear.in_features * precision.compute  # cast to fp32 by PEFT, back by autocast, per adapter
    return linear.in_features * (precision.trained if precision.trained != precision.compute else 0)


def kept_inputs(
    linears: tuple[LinearLayer, ...], adapted: frozenset[str], case: MemoryCase, precision: Precision
) -> float:
    """Bytes per token of inputs kept by linear layers that read the same tensor."""
    size = linears[0].in_features
    if case.tuning == "full":
        # Autocast casts an fp32 input once per layer that reads it.
        copies = len(linears) if precision.stream > precision.compute else 1
        return copies * precision.compute * size
    targets = [linear for linear in linears if linear.name in adapted]
    own = sum(adapter_input(linear, case, precision) for linear in targets)
    shared = precision.compute * size if targets and precision.quantization != "none" and not own else 0
    return own + shared


@dataclass(frozen=True, slots=True)
class BlockActivations:
    """Bytes per token in one block: kept until its backward, and the further peak inside that backward."""

    saved: float
    backward: float


def block_activations(
    architecture: Architecture, block: Block, adapted: frozenset[str], case: MemoryCase, precision: Precision
) -> BlockActivations:
    """What one decoder block keeps, and what its backward adds, per token."""
    full = case.tuning == "full"
    c, s, hidden = precision.compute, precision.stream, architecture.hidden_size
    queries = architecture.num_attention_heads * architecture.head_dim
    keys = architecture.num_key_value_heads * architecture.head_dim
    saved = architecture.norms_per_block * norm_saved(hidden, precision, architecture.layer_norm, full)
    if architecture.qk_norm:
        saved += norm_saved(queries + keys, precision, False, full)
    inputs = block.attention[:-1]
    saved += kept_inputs(inputs, adapted, case, precision)
    # Query, key, value, output, and one fp32 log-sum-exp per head (flash attention; torch's SDPA keeps the same).
    saved += c * (2 * queries + 2 * keys) + 4 * architecture.num_attention_heads
    if case.attn_implementation == "eager":
        # Softmax in fp32 and its 16-bit copy, for each of the S keys (eager_attention_forward).
        saved += (4 + c) * architecture.num_attention_heads * case.max_length
    if not full:
        saved += kept_inputs(block.attention[-1:], adapted, case, precision)
    mlp_saved, mlp_backward = _mlp_activations(architecture, block, adapted, case, precision)
    # The gradient of the residual stream, and of the branch that is being walked back.
    return BlockActivations(saved + mlp_saved, mlp_backward + 2 * s * hidden)


def _mlp_activations(
    architecture: Architecture, block: Block, adapted: frozenset[str], case: MemoryCase, precision: Precision
) -> tuple[float, float]:
    c = precision.compute
    inner = block.intermediate_size
    if block.experts is not None:
        # Each token is copied to its experts; gate, up, activation and product for each copy.
        width = block.experts.experts_per_token
        kept = width * c * (2 * architecture.hidden_size + 4 * inner)
        return kept + 4 * block.experts.num_experts, width * c * 2 * inner
    down_input = kept_inputs(block.mlp[-1:], adapted, case, precision)
    entry = kept_inputs(block.mlp[:-1], adapted, case, precision)
    # Gated: gate, up and act(gate) are kept. Plain: the activation's input alone.
    kept = c * inner * (3 if architecture.mlp_kind == "gated" else 1)
    # Walking back: gradients of the product, of act(gate) and of up, once the kept product is gone.
    gradients = c * inner * (3 if architecture.mlp_kind == "gated" else 2)
    return entry + kept + down_input, max(gradients - down_input, c * inner)


def head_activations(architecture: Architecture, case: MemoryCase, precision: Precision) -> float:
    """Bytes per token that the final norm keeps, and its output."""
    full = case.tuning == "full"
    size = architecture.hidden_size
    return norm_saved(size, precision, architecture.layer_norm, full) + precision.stream * size


def logits_bytes(architecture: Architecture, case: MemoryCase, precision: Precision, tokens: int) -> float:
    """Bytes of the loss moment: logits or what stands for them, over the whole micro-batch of `tokens`."""
    hidden, vocab = architecture.hidden_size, architecture.vocab_size
    head_trains = case.tuning == "full"
    if case.loss_kernel == "full_logits":
        return float(FULL_LOGITS_BYTES * tokens * vocab)
    if case.loss_kernel == "liger":
        # Liger's fused linear cross-entropy: chunks of about H/V of the tokens; logits and fp32 copy of one chunk, the
        # gradients of input and head (ops/fused_linear_cross_entropy.py).
        chunk = 2 ** math.ceil(math.log2(max(1, tokens / math.ceil(vocab / hidden))))
        head = precision.weight * vocab * hidden if head_trains else 0
        return float(6 * chunk * vocab + 2 * tokens * hidden + head)
    # trl's chunked log-probabilities: the scored positions' copy, their fp32 gradient and its 16-bit cast, one tile,
    # and the head's gradient twice (fp32 sum and cast) when it trains.
    tile = min(tokens, FUSED_TOKENS) * FUSED_COLUMNS * precision.compute
    head = (4 + precision.weight) * vocab * hidden if head_trains else 0
    return float(tokens * hidden * (4 + 2 * precision.stream) + tile + head)


def dequantised(architecture: Architecture, precision: Precision) -> int:
    """Bytes of the largest linear layer dequantised for its product, forward and backward (bitsandbytes matmul)."""
    if precision.quantization == "none":
        return 0
    return 2 * max(linear.weight_parameters for b in architecture.blocks for linear in b.linears)
