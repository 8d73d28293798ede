"""The terms of the estimate: each a small function in bytes, with the reason for every constant beside it.

Symbols: N tokens in a micro-batch, H hidden size, I intermediate size, V vocabulary, S sequence length.
Rows "fms" are those of fms-acceleration's A100 benchmark (torch 2.4, transformers 4.45), which fix what the code
of transformers, trl, peft and bitsandbytes leaves open.
"""

import math
from dataclasses import dataclass

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.memory.case import MemoryCase, Precision
from workbench.engine.memory.objectives import objective_of
from workbench.engine.memory.tensors import removed_head, score_layer

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

# Unsloth's kernel keeps the shifted copy, no log-softmax, and writes its gradient in place: fp32 logits and their copy
# on the way forward, two gradients on the way back (Fast_CrossEntropyLoss in fms-acceleration's foak plugin).
IN_PLACE_LOGITS_BYTES = 8

# LitGPT's chunks of logits leave the model in fp32 (Fabric's convert_output) and all wait for the loss, whose
# log-softmax, then gradient, is as large.
LITGPT_LOGITS_BYTES = 8

_WHOLE_LOGITS = {
    "full_logits": FULL_LOGITS_BYTES, "unsloth": IN_PLACE_LOGITS_BYTES, "litgpt": LITGPT_LOGITS_BYTES
}


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of the base model: `sharded` where FSDP may divide them, `whole` what it leaves on every GPU."""

    sharded: float
    whole: float = 0


def base_weights(architecture: Architecture, case: MemoryCase, precision: Precision) -> Weights:
    """Bytes of the base. Only linear layers inside blocks are quantised; the rest keeps 16 or 32 bits."""
    width = precision.trained if case.tuning == "full" else precision.weight
    quantised = architecture.block_linear_parameters
    experts = [(b.count, b.experts) for b in architecture.blocks if b.experts]
    if case.on_transformers_4:
        # Each expert is three nn.Linear there; transformers 5 fuses them into tensors that bitsandbytes leaves alone.
        quantised += sum(count * (e.parameters + e.router_parameters) for count, e in experts)
    others = architecture.parameters - removed_head(architecture, case) + score_layer(architecture, case) - quantised
    # prepare_model_for_kbit_training makes the rest fp32; under bf16 trl 0.11 (peft_module_casting_to_bf16)
    # takes all but the norms back. fms rows of PowerLM-3b have a bf16 embedding.
    raised = architecture.parameters_by_module["norms"] if precision.autocast else others
    kept = others * width + raised * (precision.stream - precision.weight)
    rows = sum(b.count * linear.out_features for b in architecture.blocks for linear in b.linears if linear.quantised)
    packed = {
        "none": quantised * width,
        "nf4": quantised * NF4_BYTES,
        "nf4-double": quantised * NF4_DOUBLE_BYTES,
        "int8": quantised + 4 * rows,  # one fp32 scale per output row
    }[precision.quantization]
    # FSDP2's fully_shard ignores Params4bit (accelerate's fsdp2_prepare_model): every GPU holds them all. FSDP1 divides
    # them where they are stored as 16-bit numbers (bnb_4bit_quant_storage), and has no other way to hold them.
    if precision.quantization == "none" or case.on_transformers_4:
        return Weights(kept + packed)
    return Weights(kept, packed)


def reference_weights(architecture: Architecture, case: MemoryCase, precision: Precision) -> float:
    """Bytes of the second, frozen model that full fine-tuning on preferences or with a KL term holds."""
    row = objective_of(case.objective).reference
    beta = case.beta if case.beta is not None else {"grpo": 0.0, "rloo": 0.05}[case.algorithm]
    needed = not case.precompute_ref_log_probs if row == "yes" else row == "beta" and beta != 0
    return architecture.parameters * precision.weight if needed and case.tuning == "full" else 0


@dataclass(frozen=True, slots=True)
class LossBytes:
    """Bytes that the loss adds to the kept activations, on the way forward and on the way back."""

    forward: float
    backward: float


def loss_bytes(architecture: Architecture, case: MemoryCase, precision: Precision, tokens: int,
               number: float) -> LossBytes:
    """Logits or what stands for them, over the micro-batch's scored `tokens`; the final norm's output is made of
    numbers of `number` bytes."""
    hidden, vocab = architecture.hidden_size, architecture.vocab_size
    head_trains = case.tuning == "full"
    kernel = loss_kernel_of(case)
    if kernel == "score":
        return LossBytes(0, number * hidden * tokens)  # the gradient of the norm's output
    if kernel in _WHOLE_LOGITS:
        # A capped logit's tanh stays for the backward, in the head's own type; fused losses cap inside their kernel.
        capped = precision.compute if architecture.caps_logits and kernel == "full_logits" else 0
        logits = (_WHOLE_LOGITS[kernel] + capped) * tokens * vocab
        return LossBytes(logits, logits)
    if kernel == "liger":
        # Liger's fused linear cross-entropy: chunks of about H/V of the tokens; logits and fp32 copy of one chunk,
        # the gradients of input and head (ops/fused_linear_cross_entropy.py), all on the way forward.
        chunk = 2 ** math.ceil(math.log2(max(1, tokens / math.ceil(vocab / hidden))))
        head = precision.weight * vocab * hidden if head_trains else 0
        gradient = 2 * tokens * hidden
        return LossBytes(6 * chunk * vocab + gradient + head, gradient + head)
    # trl's chunked log-probabilities: one tile of logits and, where they are fp32, the 16-bit cast of its positions. On
    # the way forward the norm's output stands beside its scored positions, which act for it later. On the way back,
    # their fp32 gradient, its cast to their own type, and the head's gradient when it trains (fp32 sum, and its cast).
    tile = min(tokens, FUSED_TOKENS) * FUSED_COLUMNS * precision.compute
    cast = min(vocab, FUSED_COLUMNS) * hidden * precision.compute if precision.weight != precision.compute else 0
    head = (4 + precision.weight % 4) * vocab * hidden if head_trains else 0
    chunk = min(tokens, FUSED_TOKENS) * hidden * precision.compute if number != precision.compute else 0
    held = tile + chunk + cast
    back = 4 + (number if number != 4 else 0)
    return LossBytes(tokens * hidden * number + held, tokens * hidden * back + held + head)


@dataclass(frozen=True, slots=True)
class CastWeights:
    """Bytes of the 16-bit copies that autocast makes of fp32 weights: at the end of the forward, at the start of the
    backward, and in one block."""

    in_forward: float = 0
    in_backward: float = 0
    in_block: float = 0


def cast_weights(architecture: Architecture, case: MemoryCase, precision: Precision) -> CastWeights:
    """Autocast caches copies of weights that train until the forward ends; the graph keeps them, trained or not, until
    their layer's backward, which checkpointing shortens to one block."""
    if not precision.autocast or precision.weight == precision.compute or precision.quantization != "none":
        return CastWeights()
    sizes = [
        (b.count, sum(linear.weight_parameters for linear in b.linears) + (b.experts.parameters if b.experts else 0))
        for b in architecture.blocks
    ]
    blocks = precision.compute * sum(count * size for count, size in sizes)
    kept = 0 if case.gradient_checkpointing else blocks
    # The chunked head casts each chunk anew, and a score layer is small.
    whole_logits = loss_kernel_of(case) in (*_WHOLE_LOGITS, "liger")
    head = precision.compute * architecture.head.weight_parameters if whole_logits else 0
    return CastWeights(
        in_forward=(blocks if case.tuning == "full" else kept) + head,
        in_backward=kept + head,
        in_block=precision.compute * max(size for _, size in sizes) if case.gradient_checkpointing else 0,
    )


def loss_kernel_of(case: MemoryCase) -> str:
    """What computes the loss: a `loss_kernel` other than auto, or score for a reward model."""
    default = objective_of(case.objective).loss
    return default if default == "score" or case.loss_kernel == "auto" else case.loss_kernel


def dequantised(architecture: Architecture, precision: Precision) -> int:
    """Bytes of the largest linear layer dequantised for its product, forward and backward (bitsandbytes matmul)."""
    if precision.quantization == "none":
        return 0
    sizes = (x.weight_parameters for b in architecture.blocks for x in b.linears if x.quantised)
    return 2 * max(sizes, default=0)
