"""The terms of the estimate: each a small function in bytes, with the reason for every constant beside it.

Symbols: N tokens in a micro-batch, H hidden size, I intermediate size, V vocabulary, S sequence length.
Rows "fms" are those of fms-acceleration's A100 benchmark (torch 2.4, transformers 4.45), which fix what the code
of transformers, trl, peft and bitsandbytes leaves open.
"""

import math
from dataclasses import dataclass

from workbench.engine.catalog.architecture import Architecture
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
    """Bytes of the base model. Only linear layers inside blocks are quantised; the rest keeps 16 or 32 bits."""
    linears = architecture.block_linear_parameters
    others = architecture.parameters - linears
    # prepare_model_for_kbit_training makes the rest fp32; under bf16 trl 0.11 (peft_module_casting_to_bf16)
    # takes all but the norms back. fms rows of PowerLM-3b have a bf16 embedding.
    raised = architecture.parameters_by_module["norms"] if precision.autocast else others
    kept = others * precision.weight + raised * (precision.stream - precision.weight)
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


def logits_bytes(architecture: Architecture, case: MemoryCase, precision: Precision, tokens: int) -> float:
    """Bytes of the loss moment: logits or what stands for them, over the whole micro-batch of `tokens`."""
    hidden, vocab = architecture.hidden_size, architecture.vocab_size
    head_trains = case.tuning == "full"
    if case.loss_kernel == "full_logits":
        return float(FULL_LOGITS_BYTES * tokens * vocab)
    if case.loss_kernel == "liger":
        # Liger's fused linear cross-entropy: chunks of about H/V of the tokens; logits and fp32 copy of one chunk,
        # the gradients of input and head (ops/fused_linear_cross_entropy.py).
        chunk = 2 ** math.ceil(math.log2(max(1, tokens / math.ceil(vocab / hidden))))
        head = precision.weight * vocab * hidden if head_trains else 0
        return float(6 * chunk * vocab + 2 * tokens * hidden + head)
    # trl's chunked log-probabilities: the fp32 gradient of the scored positions and its cast, one tile of logits, and
    # the head's gradient twice (fp32 sum and cast) when it trains. The scored positions stand for the norm's output.
    tile = min(tokens, FUSED_TOKENS) * FUSED_COLUMNS * precision.compute
    cast = FUSED_COLUMNS * hidden * precision.compute if precision.weight != precision.compute else 0
    head = (4 + precision.weight) * vocab * hidden if head_trains else 0
    return float(tokens * hidden * (4 + precision.stream) + tile + cast + head)


def optimizer_states(case: MemoryCase, precision: Precision, trained: int) -> float:
    """Bytes of the optimizer's states for all trained numbers, before any sharding."""
    state = optimizer_of(case).state
    return trained * (2 * precision.trained if state is None else state)


def sharding_buffers(architecture: Architecture, case: MemoryCase, precision: Precision, trained: int) -> float:
    """Bytes that several processes add on each GPU: DDP's gradient buckets, or the units that FSDP gathers."""
    if case.num_processes == 1 or case.sharding == "none":
        return 0
    if case.sharding == "ddp":
        return trained * precision.trained  # gradient_as_bucket_view is off by default: a second copy
    unit = max(architecture.embedding_parameters, *(block.parameters for block in architecture.blocks))
    return 2 * precision.weight * unit  # the unit at work and the one that is fetched ahead


def autocast_weights(architecture: Architecture, case: MemoryCase, precision: Precision) -> int:
    """Bytes of the 16-bit copies that autocast caches of fp32 weights in training, until the forward ends."""
    if case.tuning != "full" or not precision.autocast or precision.weight == precision.compute:
        return 0
    return precision.compute * (architecture.block_linear_parameters + architecture.head.weight_parameters)


def dequantised(architecture: Architecture, precision: Precision) -> int:
    """Bytes of the largest linear layer dequantised for its product, forward and backward (bitsandbytes matmul)."""
    if precision.quantization == "none":
        return 0
    return 2 * max(linear.weight_parameters for b in architecture.blocks for linear in b.linears)
