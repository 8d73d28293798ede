"""CUDA's kernels by what they allocate: attention as torch and flash-attn run it, and the workspaces of others."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

aten = torch.ops.aten
LOW = (torch.bfloat16, torch.float16)


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
    if attn_mask is None and query.dtype in LOW and query.shape[-1] == width <= 256:
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
    return 4 * batch * heads * length * (width + 1) if query.dtype in LOW else 4 * batch * heads * length


def _gemm_4bit(a: torch.Tensor, b: torch.Tensor, shape: Any, absmax: torch.Tensor, blocksize: int, *rest: Any,
               **keywords: Any) -> int:
    """Large products dequantise the whole layer, and its scales when they are quantised too
    (bitsandbytes/backends/cuda/ops.py, _dequant_linear_fallback)."""
    size = math.prod(shape)
    scales = 4 * (size // blocksize) if keywords.get("absmax_8bit") is not None else 0
    return size * a.element_size() + scales


def _int8_scaled_mm(a: torch.Tensor, b: torch.Tensor, *rest: Any, **keywords: Any) -> int:
    """The int32 product, and its fp16 form when another type is asked for (bitsandbytes/backends/default/ops.py)."""
    size = a.shape[:-1].numel() * b.shape[0]
    return size * (4 + (2 if keywords.get("dtype", torch.float16) != torch.float16 else 0))


def scratch_operators() -> frozenset[Any]:
    """Operators whose results live for one product: dequantised layers."""
    import bitsandbytes  # noqa: F401 (registers its operators)

    return frozenset({torch.ops.bitsandbytes.dequantize_4bit.default})


def kernel_workspaces() -> dict[Any, Callable[..., int]]:
    """Bytes that CUDA kernels allocate inside, by operator: functions of the operator's arguments."""
    import bitsandbytes  # noqa: F401 (registers its operators)

    return {
        aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
        aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
        torch.ops.bitsandbytes.gemm_4bit.default: _gemm_4bit,
        torch.ops.bitsandbytes.int8_scaled_mm.default: _int8_scaled_mm,
    }


def flash_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout_p: float = 0.0,
                    softmax_scale: float | None = None, causal: bool = False, window_size: tuple[int, int] = (-1, -1),
                    softcap: float = 0.0, deterministic: bool = False) -> torch.Tensor:
    """flash_attn_func of the package flash-attn: (batch, tokens, heads, width) in and out, no scores kept."""
    heads_first = (tensor.transpose(1, 2) for tensor in (q, k, v))
    return aten._scaled_dot_product_flash_attention(*heads_first, dropout_p, causal, scale=softmax_scale)[0].transpose(
        1, 2)


def flash_attention_unpadded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens_q: torch.Tensor,
                             cu_seqlens_k: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int, dropout_p: float = 0.0,
                             softmax_scale: float | None = None, causal: bool = False,
                             window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                             deterministic: bool = False) -> torch.Tensor:
    """flash_attn_varlen_func: all rows one after the other, (tokens, heads, width)."""
    return flash_attention(q[None], k[None], v[None], dropout_p, softmax_scale, causal)[0]
