"""What a GPU does differently from a CPU, so that fake CPU tensors can stand for a GPU's.

This is the one place that reaches into the libraries' private parts: `PATCHES`, checked by a test.
"""

import pkgutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from workbench.worker.rehearsal.kernels import LOW, attention, flash_attention, flash_attention_unpadded


def _state_buffer(optimizer: Any, parameter: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """bitsandbytes' optimizer states: paged ones of 100,000 numbers and more lie in unified memory, outside torch's
    allocator (optim/optimizer.py, get_state_buffer)."""
    if optimizer.is_paged and parameter.numel() >= 1e5:
        return torch.zeros(1, dtype=dtype).expand(parameter.shape)
    return torch.zeros_like(parameter, dtype=dtype)


def _flash_functions(*arguments: Any, **keywords: Any) -> tuple[Any, ...]:
    utilities = pkgutil.resolve_name(FLASH)
    return flash_attention, flash_attention_unpadded, None, utilities._pad_input, utilities._unpad_input


_is_autocast_enabled = torch.is_autocast_enabled


def _autocasts(device_type: str = "cpu") -> bool:
    """Without an argument PEFT asks about the GPU, for which the CPU stands here."""
    return _is_autocast_enabled(device_type)


MASKING, FLASH = "transformers.masking_utils", "transformers.modeling_flash_attention_utils"
PATCHES = (
    # trl scores only labelled positions where Triton runs; its kernels work in place, their CPU stand-ins do not.
    ("trl.trainer.utils", "_use_triton", lambda device: True),
    ("trl.kernels.chunked_logprob", "_addmm_fp32", lambda *arguments, **keywords: None),
    ("trl.kernels.chunked_logprob", "_forward_tile", lambda *arguments, **keywords: None),
    ("trl.kernels.chunked_logprob", "_backward_tile", lambda *arguments, **keywords: None),
    # The package flash-attn runs, and installs, on GPUs only.
    (FLASH, "_lazy_imports", _flash_functions),
    ("torch", "is_autocast_enabled", _autocasts),
    ("bitsandbytes.optim.optimizer:Optimizer8bit", "get_state_buffer", _state_buffer),
)
"""(where, name, what stands for it on a GPU)."""


@contextmanager
def reading_masks(padded: bool, packed: bool) -> Iterator[None]:
    """Let transformers read masks of fake tensors: it reads none while tracing, and then builds masks for attention
    that a real run does without.

    `padded`: the rows of a batch differ in length; `packed`: a row holds several. Either way attention needs a mask.
    """
    masking = pkgutil.resolve_name(MASKING)
    with patch.object(masking, "is_tracing", lambda tensor=None: packed), \
            patch.object(masking, "fast_all", lambda tensor: not padded):
        yield


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Let trainers on fake CPU tensors allocate what they would allocate on a GPU."""
    found = [(pkgutil.resolve_name(where), name, stand_in) for where, name, stand_in in PATCHES]
    run_backward = torch.autograd._engine_run_backward
    functions = CudaFunctions()

    def backward(*arguments: Any, **keywords: Any) -> Any:
        with functions:  # torch leaves the mode on its way here, and checkpointing recomputes in there
            return run_backward(*arguments, **keywords)

    found.append((torch.autograd, "_engine_run_backward", backward))
    with ExitStack() as stack:
        for module, name, stand_in in found:
            stack.enter_context(patch.object(module, name, stand_in))
        stack.enter_context(functions)
        yield


# What CUDA's autocast runs in fp32 and the CPU's does not, by the names Python code calls it
# (AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE in torch/include/ATen/autocast_mode.h); square is made of pow.
_FP32_NAMES = ("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt",
               "sinh", "tan", "square", "pow", "__pow__", "__rpow__", "norm", "dist", "renorm", "logsumexp", "prod",
               "cumprod", "cumsum", "sum", "cosine_similarity", "layer_norm", "rms_norm", "group_norm", "softplus",
               "nll_loss", "cross_entropy", "kl_div", "l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss",
               "binary_cross_entropy_with_logits", "softmax", "log_softmax")
_FP32 = frozenset(getattr(owner, name) for owner in (torch, torch.Tensor, functional, torch.linalg)
                  for name in _FP32_NAMES if hasattr(owner, name))


# CUDA's reductions read 16 bits and write fp32 without a copy (aten/src/ATen/native/ReduceOps.cpp, gpu_lowp_to_f32).
_SUMS = frozenset((torch.sum, torch.Tensor.sum, torch.prod, torch.Tensor.prod))


class CudaFunctions(TorchFunctionMode):
    """CUDA's autocast to fp32, its dropout and its choice of attention kernel, for tensors on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return attention(*args, **kwargs)
        if func is functional.dropout:
            return _dropout(*args, **kwargs)
        if func in _SUMS and args and _is_low(args[0]) and torch.is_autocast_enabled("cpu"):
            kwargs = {"dtype": torch.float32, **kwargs}
        elif func in _FP32 and torch.is_autocast_enabled("cpu") and kwargs.get("dtype") is None:
            args = tuple(map(_to_fp32, args))
            kwargs = {name: _to_fp32(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """CUDA's fused kernel keeps a mask of one byte a number, the CPU a factor of the input's own type
    (aten/src/ATen/native/Dropout.cpp, is_fused_kernel_acceptable)."""
    return torch.native_dropout(x, p, True)[0] if training and 0 < p < 1 and not inplace else \
        functional.dropout(x, p, training, inplace)


def _to_fp32(value: Any) -> Any:
    return value.float() if _is_low(value) else value


def _is_low(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in LOW
