"""Storages counted while the real model runs forward and backward on fake tensors, as it would on a CUDA GPU."""

import importlib
import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.families import config_object


class StorageCount(TorchDispatchMode):
    """Bytes of all storages alive, in torch's blocks of 512, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.seen: set[int] = set()

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // 512) * 512
        if key not in self.seen:
            self.seen.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.remove, key, size)

    def remove(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        return result


# CUDA's autocast runs these in fp32 (aten/src/ATen/autocast_mode.h, AT_FORALL_FP32); CPU's does not.
_FP32 = ((torch.nn.functional, "layer_norm"), (torch, "pow"), (torch.Tensor, "pow"), (torch.Tensor, "__pow__"),
         (torch, "square"), (torch.Tensor, "square"), (torch, "expm1"))  # fmt: skip


def _raised(leaf: Any) -> Any:
    return leaf.float() if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bfloat16 else leaf


def _in_fp32(function: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map(_raised, (args, kwargs))
        return function(*args, **kwargs)

    return run


_softmax = torch.nn.functional.softmax


def _softmax_in_fp32(*args: Any, **kwargs: Any) -> Any:
    if torch.is_autocast_enabled("cpu") and kwargs.get("dtype") is None:
        kwargs["dtype"] = torch.float32
    return _softmax(*args, **kwargs)


def _fused_dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """CUDA's kernel keeps a mask of one byte a number, where CPU's multiplies by one of the input's type."""
    return torch.native_dropout(x, p, True)[0] if training and p else x


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """CUDA's autocast, attention kernels that know dropout, and trl's Triton kernels, which work in place where their
    CPU stand-ins do not. Only what they allocate matters here."""
    kernels = importlib.import_module("trl.kernels.chunked_logprob")
    names = ("_addmm_fp32", "_forward_tile", "_backward_tile")
    attention = torch.nn.functional.scaled_dot_product_attention
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(kernels, name, lambda *arguments, **keywords: None))
        stack.enter_context(patch.object(torch.nn.functional, "softmax", _softmax_in_fp32))
        stack.enter_context(patch.object(torch.nn.functional, "dropout", _fused_dropout))
        for place, name in _FP32:
            stack.enter_context(patch.object(place, name, _in_fp32(getattr(place, name))))
        stack.enter_context(patch.object(
            torch.nn.functional, "scaled_dot_product_attention",
            lambda *args, **kwargs: attention(*args[:4], **{**kwargs, "dropout_p": 0.0}),
        ))  # fmt: skip
        yield


def build(config: dict[str, Any], tuning: str, attention: str, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The model on meta, wrapped and patched as trl's SFTTrainer does it; causality without a mask, as on CUDA."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config_object(config), dtype=dtype, attn_implementation=attention
        )
        modeling = sys.modules[type(model).__module__]
        for name in ("create_causal_mask", "create_sliding_window_causal_mask", "create_chunked_causal_mask"):
            if hasattr(modeling, name) and config["model_type"] != "mpt":  # which adds its alibi by the mask
                setattr(modeling, name, lambda *arguments, **keywords: None)
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
        return get_peft_model(model, LoraConfig(r=16, target_modules="all-linear")) if tuning == "lora" else model


def make_fake(model: Any) -> None:
    """Put fake CPU tensors in place of the meta ones, tied ones once."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, old in module._parameters.items():
            if old is not None:
                fresh = torch.nn.Parameter(torch.empty(old.shape, dtype=old.dtype), requires_grad=old.requires_grad)
                module._parameters[name] = made.setdefault(id(old), fresh)
        for name, old in module._buffers.items():
            if old is not None:
                module._buffers[name] = torch.empty(old.shape, dtype=old.dtype)


def traced_peak(model: Any, batch: int, length: int, checkpointing: bool, adapters: bool) -> int:
    """Peak bytes of one forward and backward under bf16 autocast, weights included."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        make_fake(model)
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            if adapters:
                model.enable_input_require_grads()
        ids = torch.zeros(batch, length, dtype=torch.long)
        with StorageCount() as count:
            for parameter in model.parameters():
                count.add(parameter)
            with as_on_cuda():
                with torch.autocast("cpu", torch.bfloat16):
                    loss = -model(input_ids=ids, labels=ids, fused_lm_head=True, use_cache=False).log_probs.sum()
                loss.backward()
            return count.peak
