"""Whether what is about to be saved is worth going on from: weights, optimizer and loss without NaN or infinities."""

import math
from collections.abc import Iterable, Iterator

import torch
from transformers import Trainer


class NonFiniteLossError(RuntimeError):
    """The loss, the gradient or the weights became NaN or infinite: nothing after that is worth the electricity."""


def refuse_not_finite(trainer: Trainer) -> None:
    """Raise NonFiniteLossError when the trained weights, the optimizer's memory or the loss since the last log are not
    finite."""
    step = trainer.state.global_step
    loss = float(trainer._tr_loss)
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"The loss became {loss} by step {step}.")
    for name, value in [*_weights(trainer), *_memory(trainer)]:
        if not _is_finite(value):
            raise NonFiniteLossError(f"{name} holds NaN or an infinity at step {step}.")


def _weights(trainer: Trainer) -> Iterable[tuple[str, torch.Tensor]]:
    return ((name, parameter.detach()) for name, parameter in trainer.model.named_parameters()
            if parameter.requires_grad)


def _memory(trainer: Trainer) -> Iterator[tuple[str, torch.Tensor]]:
    for state in trainer.optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                yield f"The optimizer's {name}", value


def _is_finite(value: torch.Tensor) -> bool:
    """Whether all numbers are finite. Minimum and maximum pass NaN on, and take no memory of the tensor's size."""
    if value.numel() == 0 or not value.is_floating_point():
        return True
    low, high = torch.aminmax(value)
    return bool(torch.isfinite(low)) and bool(torch.isfinite(high))
