"""What each optimizer holds between steps and what its step adds, tensor by tensor: torch, transformers, bitsandbytes.

Names are transformers' OptimizerNames, with the arguments that its Trainer passes (trainer_optimizer.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from workbench.engine.errors import InputError

# bitsandbytes and torchao quantise in blocks of 256 numbers that share one fp32 scale, from 4,096 numbers on
# (optim.optimizer.Optimizer2State, torchao/optim/adam.py); bitsandbytes pages buffers from 100,000 numbers on.
_BLOCK = 256
_SMALLEST_QUANTISED = 4096
_SMALLEST_PAGED = 100_000


@dataclass(frozen=True, slots=True)
class Trained:
    """`count` trained tensors of one shape: `numbers` each, and `marginals`, the numbers in the sums over its last and
    over its last but one dimension (none for vectors). `embedding`: whether an `nn.Embedding` holds it."""

    numbers: int
    marginals: int | None = None
    count: int = 1
    embedding: bool = False


@dataclass(frozen=True, slots=True)
class Optimizer:
    """`moments` states of the tensor's own size.

    `bits`: own (the tensor's type), 32, 8 or 4. `copies`: 16- or 32-bit copies of all trained weights that a step
    makes at once (foreach implementations). `factored`: Adafactor keeps sums of rows and of columns instead.
    """

    moments: int
    bits: Literal["own", 32, 8, 4] = "own"
    library: Literal["torch", "bitsandbytes"] = "torch"
    paged: bool = False
    copies: int = 0
    factored: bool = False


def _bnb(moments: int, bits: Literal[32, 8], paged: bool = False) -> Optimizer:
    return Optimizer(moments, bits, "bitsandbytes", paged)


OPTIMIZERS: dict[str, Optimizer] = {
    "adamw_torch": Optimizer(2, copies=1),  # foreach: _foreach_sqrt of the second moment
    "adamw_torch_fused": Optimizer(2),
    "adamw_torch_8bit": Optimizer(2, 8),  # torchao, compiled: its temporaries stay in registers
    "adamw_torch_4bit": Optimizer(2, 4),
    "adafactor": Optimizer(0, factored=True),  # beta1=None: no first moment
    "sgd": Optimizer(0),  # no momentum unless optim_args asks for it
    "adagrad": Optimizer(1, copies=2),  # foreach: the root of the sums, and the scaled gradients
    "rmsprop": Optimizer(1, copies=1),  # foreach: the root of the averages
    "adamw_bnb_8bit": _bnb(2, 8),
    "adamw_8bit": _bnb(2, 8),
    "paged_adamw_8bit": _bnb(2, 8, paged=True),
    "paged_adamw_32bit": _bnb(2, 32, paged=True),
    "lion_32bit": _bnb(1, 32),
    "lion_8bit": _bnb(1, 8),
    "paged_lion_32bit": _bnb(1, 32, paged=True),
    "paged_lion_8bit": _bnb(1, 8, paged=True),
    "rmsprop_bnb": _bnb(1, 32),
    "rmsprop_bnb_32bit": _bnb(1, 32),
    "rmsprop_bnb_8bit": _bnb(1, 8),
    "ademamix": _bnb(3, 32),
    "ademamix_8bit": _bnb(3, 8),
    "paged_ademamix_32bit": _bnb(3, 32, paged=True),
    "paged_ademamix_8bit": _bnb(3, 8, paged=True),
}


def optimizer_of(name: str) -> Optimizer:
    """Raises InputError for an optimizer whose memory is not known."""
    if name not in OPTIMIZERS:
        raise InputError(f"The memory of the optimizer {name!r} is not estimated.",
                         hint=f"Estimated: {', '.join(OPTIMIZERS)}.")
    return OPTIMIZERS[name]


def state_bytes(optimizer: Optimizer, tensors: Iterable[Trained], width: int) -> float:
    """Bytes that stay allocated between steps, for weights of `width` bytes a number, before any sharding."""
    return sum(tensor.count * _state(optimizer, tensor, width) for tensor in tensors)


def _state(optimizer: Optimizer, tensor: Trained, width: int) -> float:
    if optimizer.factored:
        return 4 * (tensor.numbers if tensor.marginals is None else tensor.marginals)
    if optimizer.bits == "own":
        return optimizer.moments * width * tensor.numbers
    # transformers' Trainer keeps the states of embeddings in 32 bits (create_optimizer); a tied head shares them.
    bitsandbytes = optimizer.library == "bitsandbytes"
    small = tensor.numbers < _SMALLEST_QUANTISED or (bitsandbytes and tensor.embedding)
    # Paged states live in unified memory, outside torch's allocator; the scales do not.
    outside = optimizer.paged and tensor.numbers >= _SMALLEST_PAGED
    if optimizer.bits == 32 or small:
        full = 4 if bitsandbytes else width
        return 0 if outside else optimizer.moments * full * tensor.numbers
    codes = 0 if outside else optimizer.bits / 8
    return optimizer.moments * (codes + 4 / _BLOCK) * tensor.numbers


def step_bytes(optimizer: Optimizer, tensors: Iterable[Trained], width: int) -> float:
    """Bytes that a step adds for a moment, before any sharding."""
    if not optimizer.factored:
        return optimizer.copies * width * sum(tensor.count * tensor.numbers for tensor in tensors)
    # transformers' Adafactor goes tensor by tensor: gradient and weight in fp32 unless they are, the squared gradient
    # and its sum with epsilon, and what the tensor before left in the variable `update`.
    copies = 8 if width == 4 else 16
    most, before = 0, 0
    for tensor in tensors:
        before = max(before, tensor.numbers) if tensor.count > 1 else before
        most = max(most, copies * tensor.numbers + 4 * before)
        before = tensor.numbers
    return most
