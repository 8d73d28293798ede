"""The estimate against the libraries themselves: storages counted while the real model runs on fake tensors."""

import importlib
import weakref
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.memory.estimate import MemoryCase, estimate_memory
from workbench.engine.memory.terms import CUBLAS_WORKSPACES

LAYERS, BATCH, LENGTH = 4, 8, 1024
NAMES = ("Qwen/Qwen3-0.6B", "meta-llama/Llama-3.2-1B", "google/gemma-3-1b-it", "microsoft/phi-1_5")


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


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """trl's Triton kernels work in place; their CPU stand-ins do not. Only what they allocate matters here."""
    kernels = importlib.import_module("trl.kernels.chunked_logprob")
    for name in ("_addmm_fp32", "_forward_tile", "_backward_tile"):
        monkeypatch.setattr(kernels, name, lambda *arguments, **keywords: None)


def build(config: dict[str, Any], tuning: str, monkeypatch: pytest.MonkeyPatch,
          dtype: torch.dtype = torch.bfloat16) -> Any:
    """The model on meta, wrapped and patched as trl's SFTTrainer does it; causality without a mask, as on CUDA."""
    from peft import LoraConfig, get_peft_model
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    family = config["model_type"].removesuffix("_text")
    modeling = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    for name in ("create_causal_mask", "create_sliding_window_causal_mask"):
        monkeypatch.setattr(modeling, name, lambda *arguments, **keywords: None, raising=False)
    fields = {key: value for key, value in config.items() if key != "model_type"}
    settings = CONFIG_MAPPING[config["model_type"]](**fields, pad_token_id=None)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation="sdpa")
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


def traced_peak(model: Any, checkpointing: bool, adapters: bool) -> int:
    """Peak bytes of one forward and backward, weights included."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        make_fake(model)
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            if adapters:
                model.enable_input_require_grads()
        ids = torch.zeros(BATCH, LENGTH, dtype=torch.long)
        with StorageCount() as count:
            for parameter in model.parameters():
                count.add(parameter)
            with torch.autocast("cpu", torch.bfloat16):
                loss = -model(input_ids=ids, labels=ids, fused_lm_head=True, use_cache=False).log_probs.sum()
            loss.backward()
            return count.peak


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward_are_met_within_four_per_cent(
    name: str, tuning: Any, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve_model(name).config | {"num_hidden_layers": LAYERS}
    case = MemoryCase(
        tuning=tuning, per_device_train_batch_size=BATCH, max_length=LENGTH, gradient_checkpointing=checkpointing,
        optim="sgd", attn_implementation="flash_attention_2",
    )
    predicted = estimate_memory(architecture_from_config(config), case).peak_bytes - CUBLAS_WORKSPACES
    traced = traced_peak(build(config, tuning, monkeypatch), checkpointing, adapters=tuning == "lora")
    assert predicted == pytest.approx(traced, rel=0.04)


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_fp32_weights_and_their_copies_under_autocast_are_met_too(
    tuning: Any, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve_model("Qwen/Qwen3-8B").config | {"num_hidden_layers": LAYERS}
    case = MemoryCase(
        tuning=tuning, per_device_train_batch_size=BATCH, max_length=LENGTH, gradient_checkpointing=checkpointing,
        optim="sgd", attn_implementation="flash_attention_2", dtype="float32",
    )
    predicted = estimate_memory(architecture_from_config(config), case).peak_bytes - CUBLAS_WORKSPACES
    model = build(config, tuning, monkeypatch, torch.float32)
    assert predicted == pytest.approx(traced_peak(model, checkpointing, adapters=tuning == "lora"), rel=0.04)
