"""What a GPU does differently from a CPU, so that fake CPU tensors can stand for a GPU's.

This is the one place that reaches into the libraries' private parts: `PATCHES`, checked by a test.
"""

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten

PATCHES = (
    # trl scores only labelled positions where Triton runs; its kernels work in place, their CPU stand-ins do not.
    ("trl.trainer.utils", "_use_triton", lambda device: True),
    ("trl.kernels.chunked_logprob", "_addmm_fp32", lambda *arguments, **keywords: None),
    ("trl.kernels.chunked_logprob", "_forward_tile", lambda *arguments, **keywords: None),
    ("trl.kernels.chunked_logprob", "_backward_tile", lambda *arguments, **keywords: None),
)
"""(module, name, what stands for it on a GPU)."""
MASKING = "transformers.masking_utils"


@contextmanager
def reading_masks(padded: bool, packed: bool) -> Iterator[None]:
    """Let transformers read masks of fake tensors: it reads none while tracing, and then builds masks for attention
    that a real run does without.

    `padded`: the rows of a batch differ in length; `packed`: a row holds several. Either way attention needs a mask.
    """
    masking = importlib.import_module(MASKING)
    with patch.object(masking, "is_tracing", lambda tensor=None: packed), \
            patch.object(masking, "fast_all", lambda tensor: not padded):
        yield


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Let trainers on fake CPU tensors allocate what they would allocate on a GPU."""
    found = [(importlib.import_module(module), name, stand_in) for module, name, stand_in in PATCHES]
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
# (AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE in torch/include/ATen/autocast_mode.h).
_FP32_NAMES = ("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt",
               "sinh", "tan", "pow", "__pow__", "__rpow__", "norm", "dist", "renorm", "logsumexp", "prod", "cumprod",
               "cumsum", "sum", "cosine_similarity", "layer_norm", "rms_norm", "group_norm", "softplus", "nll_loss",
               "cross_entropy", "kl_div", "l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss",
               "binary_cross_entropy_with_logits", "softmax", "log_softmax")
_FP32 = frozenset(getattr(owner, name) for owner in (torch, torch.Tensor, functional, torch.linalg)
                  for name in _FP32_NAMES if hasattr(owner, name))
_LOW = (torch.bfloat16, torch.float16)


class CudaFunctions(TorchFunctionMode):
    """CUDA's autocast to fp32 and its choice of attention kernel, for tensors on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return attention(*args, **kwargs)
        if func in _FP32 and torch.is_autocast_enabled("cpu") and kwargs.get("dtype") is None:
            args = tuple(map(_to_fp32, args))
            kwargs = {name: _to_fp32(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _to_fp32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in _LOW else value


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None,
              dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
              enable_gqa: bool = False) -> torch.Tensor:
    """scaled_dot_product_attention with the kernel that CUDA picks (aten/.../cuda/sdp_utils.cpp): flash without a mask
    in 16 bits and up to 256 numbers a head, else the memory-efficient one."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = attn_mask.to(dtype)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    width = value.shape[-1]
    if attn_mask is None and query.dtype in _LOW and query.shape[-1] == width <= 256:
        if width % 8:
            query, key, value = (functional.pad(tensor, (0, 8 - width % 8)) for tensor in (query, key, value))
        out = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]
        return out[..., :width]
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    bias = None
    if attn_mask is not None:
        bias = attn_mask
        if attn_mask.dtype == torch.bool:
            bias = torch.where(attn_mask, 0.0, -math.inf).to(query.dtype)
        if bias.shape[-1] % 8:
            bias = functional.pad(bias, (0, 8 - bias.shape[-1] % 8))[..., : key.shape[-2]]
        bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    trains = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    return aten._scaled_dot_product_efficient_attention(query, key, value, bias, trains, dropout_p, is_causal,
                                                        scale=scale)[0]


def _flash_backward(grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, *rest: Any, **keywords: Any) -> int:
    """FlashAttention 2 sums the query's gradient in fp32, and a number per head and token; shared keys and values get
    a gradient per query head first (csrc/flash_attn/flash_api.cpp, mha_bwd)."""
    batch, heads, length, width = query.shape
    rows = batch * heads * -(-length // 128) * 128
    expanded = 0 if heads == key.shape[1] else 2 * batch * heads * key.shape[2] * width * key.element_size()
    step = 32 if width <= 128 else 64
    return rows * 4 * (-(-width // step) * step + 1) + expanded


def _efficient_backward(grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                        *rest: Any, **keywords: Any) -> int:
    """The memory-efficient kernel sums the query's gradient in fp32 (mem_eff_attention/kernel_backward.h)."""
    batch, heads, length, width = query.shape
    return 4 * batch * heads * length * (width + 1) if query.dtype in _LOW else 4 * batch * heads * length


def _gemm_4bit(a: torch.Tensor, b: torch.Tensor, shape: Any, absmax: torch.Tensor, blocksize: int, *rest: Any,
               **keywords: Any) -> int:
    """Large products dequantise the whole layer, and its scales when they are quantised too
    (bitsandbytes/backends/cuda/ops.py, _dequant_linear_fallback)."""
    size = math.prod(shape)
    scales = 4 * (size // blocksize) if keywords.get("absmax_8bit") is not None else 0
    return size * a.element_size() + scales


def _dequantize_4bit(*arguments: Any, **keywords: Any) -> int:
    return 0


def _int8_scaled_mm(a: torch.Tensor, b: torch.Tensor, *rest: Any, **keywords: Any) -> int:
    """The int32 product, and its fp16 form when another type is asked for (bitsandbytes/backends/default/ops.py)."""
    size = a.shape[:-1].numel() * b.shape[0]
    return size * (4 + (2 if keywords.get("dtype", torch.float16) != torch.float16 else 0))


def kernel_workspaces() -> dict[Any, Callable[..., int]]:
    """Bytes that CUDA kernels allocate inside, by operator: functions of the operator's arguments."""
    import bitsandbytes  # noqa: F401 (registers its operators)

    return {
        aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
        aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
        torch.ops.bitsandbytes.gemm_4bit.default: _gemm_4bit,
        torch.ops.bitsandbytes.int8_scaled_mm.default: _int8_scaled_mm,
    }
