"""What optimizers hold and what their steps add, against the real ones of torch, transformers and bitsandbytes."""

from typing import Any

import pytest
import torch

from workbench.engine.errors import InputError
from workbench.engine.memory.optimizers import OPTIMIZERS, Trained, optimizer_of, state_bytes, step_bytes
from workbench.worker.rehearsal.storages import StorageTracker

SHAPES = [(512, 1024), (300, 700), (64,), (1024, 512), (1024, 512)]
TENSORS = [Trained(512 * 1024, 512 + 1024), Trained(300 * 700, 300 + 700), Trained(64), Trained(1024 * 512, 1536, 2)]
# torchao is not installed; bitsandbytes pages on CUDA alone.
NOT_HERE = {"adamw_torch_8bit", "adamw_torch_4bit", *(name for name, row in OPTIMIZERS.items() if row.paged)}
REAL = [name for name in OPTIMIZERS if name not in NOT_HERE]


def build(name: str, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """As transformers' Trainer builds it (trainer_optimizer.py); foreach is what torch takes by itself on CUDA."""
    import bitsandbytes
    from transformers.optimization import Adafactor

    plain: dict[str, Any] = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad, "rmsprop": torch.optim.RMSprop,
                             "adamw_torch": torch.optim.AdamW}
    if name in plain:
        return plain[name](parameters, lr=1e-3, foreach=True)  # type: ignore[no-any-return]
    if name == "adamw_torch_fused":
        return torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    if name == "adafactor":
        return Adafactor(parameters, lr=1e-3, scale_parameter=False, relative_step=False)
    classes = {"adamw": "AdamW", "lion": "Lion", "rmsprop": "RMSprop", "ademamix": "AdEMAMix"}
    found = getattr(bitsandbytes.optim, next(cls for word, cls in classes.items() if word in name))
    return found(parameters, lr=1e-3, optim_bits=8 if "8bit" in name else 32)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("name", REAL)
def test_states_and_step_are_those_of_the_real_optimizer(name: str, dtype: torch.dtype) -> None:
    parameters = [torch.nn.Parameter(torch.randn(shape).to(dtype)) for shape in SHAPES]
    optimizer = build(name, parameters)

    def backward() -> None:
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)

    backward()
    optimizer.step()
    states = {
        value.untyped_storage()._cdata: value.untyped_storage().nbytes()
        for state in optimizer.state.values()
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and value.numel() > 1 and not key.startswith("qmap")
    }
    width = dtype.itemsize
    assert state_bytes(OPTIMIZERS[name], TENSORS, width) == pytest.approx(sum(states.values()), rel=1e-4)

    backward()
    with StorageTracker(fake=False) as tracker:
        tracker.add(parameters, "weights")
        tracker.add((parameter.grad for parameter in parameters if parameter.grad is not None), "gradients")
        tracker.add((value for state in optimizer.state.values() for value in state.values()
                     if isinstance(value, torch.Tensor)), "optimizer")
        tracker.begin("the optimizer step", "workspace")
        optimizer.step()
        tracker.finish()
    found = tracker.segments[0]
    step = step_bytes(OPTIMIZERS[name], TENSORS, width)
    assert sum(found.peak) - sum(found.start) == pytest.approx(step, rel=1e-3, abs=4096)


def test_small_tensors_and_embeddings_keep_32_bits_in_bitsandbytes() -> None:
    eight = OPTIMIZERS["adamw_bnb_8bit"]
    assert state_bytes(eight, [Trained(4095)], 2) == 8 * 4095
    assert state_bytes(eight, [Trained(4096)], 2) == 2 * (1 + 4 / 256) * 4096
    assert state_bytes(eight, [Trained(1 << 20, 2048, embedding=True)], 2) == 8 << 20
    assert state_bytes(OPTIMIZERS["adamw_torch_8bit"], [Trained(1 << 20, 2048, embedding=True)], 2) < 3 << 20


def test_paged_states_leave_the_allocator_but_their_scales() -> None:
    paged = OPTIMIZERS["paged_adamw_8bit"]
    assert state_bytes(paged, [Trained(1 << 20, 2048)], 2) == 2 * 4 / 256 * (1 << 20)
    assert state_bytes(OPTIMIZERS["paged_adamw_32bit"], [Trained(1 << 20, 2048)], 2) == 0
    assert state_bytes(OPTIMIZERS["paged_adamw_32bit"], [Trained(50_000, 600)], 2) == 8 * 50_000


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_known_optimizer_is_one_of_transformers(name: str) -> None:
    from transformers.training_args import OptimizerNames

    assert name in {member.value for member in OptimizerNames}


def test_the_others_are_refused() -> None:
    with pytest.raises(InputError, match="galore_adamw"):
        optimizer_of("galore_adamw")
