"""What training starts from, kept and given back: random states, trainer bookkeeping, module state, optimizer state.

Weights are not in the list, on purpose. A copy of them would double the memory of full fine-tuning just when memory is
measured, or take a trip to the host and back. The probe's optimizer step cannot change them (see `still_optimizer`),
and `Fingerprints` proves afterwards that it did not.
"""

import copy
import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import Trainer

_CHUNK = 1 << 22
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextmanager
def undisturbed(trainer: Trainer) -> Iterator[None]:
    """Whatever happens inside, training goes on as if it had not: see the list above. Gradients are dropped.

    The optimizer's state, which a resumed run already has, waits in the host's memory, so that the throw-away
    optimizer's can stand in its place.
    """
    model = trainer.model
    randomness, modules = _RandomStates(), _ModuleState(model)
    books = [_Books(trainer), _Books(trainer.state)]
    parked = _park(trainer.optimizer)
    try:
        yield
    finally:
        for parameter in model.parameters():
            parameter.grad = None
        modules.restore()
        for book in books:
            book.restore()
        for state, name, value, device in parked:
            state[name] = value.to(device)
        randomness.restore()


def still_optimizer(trainer: Trainer) -> torch.optim.Optimizer:
    """A new optimizer of the run's own class over its own parameters, that holds the same state but moves nothing.

    Its learning rate and weight decay are zero, and the probe zeroes the gradients before it steps, which takes no
    memory: a moment of zeros gives an update of zero, and a gradient that overflowed cannot turn 0 · inf into NaN.
    The run's own optimizer keeps no trace, since it is not touched.
    """
    own, trainer.optimizer = trainer.optimizer, None
    try:
        optimizer = trainer.create_optimizer()
    finally:
        trainer.optimizer = own
    for group in optimizer.param_groups:
        for name in ("lr", "weight_decay"):
            if name in group:
                group[name] = torch.zeros_like(group[name]) if isinstance(group[name], torch.Tensor) else 0.0
    return optimizer


class Fingerprints:
    """The bits of some parameters, as one sum each: exact in integers, in whatever order a GPU adds."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._sums = [_bit_sum(parameter) for parameter in parameters]

    def __len__(self) -> int:
        return len(self._parameters)

    def changed(self) -> int:
        """How many of the parameters have other bits than at first."""
        return len(self.changed_places())

    def changed_places(self) -> list[int]:
        """Which of them have, by their places in the list."""
        return [place for place, (parameter, before) in enumerate(zip(self._parameters, self._sums, strict=True))
                if _bit_sum(parameter) != before]


def _bit_sum(parameter: nn.Parameter) -> int:
    words = parameter.detach().contiguous().view(-1).view(_WORDS[parameter.element_size()])
    # In pieces: a sum into a wider type may first copy all of its input into it.
    sums = [piece.sum(dtype=torch.int64) for piece in words.split(_CHUNK)]
    return int(torch.stack(sums).sum()) if sums else 0


class _RandomStates:
    """Python's, numpy's and torch's generators, on every device."""

    def __init__(self) -> None:
        self._python, self._numpy = random.getstate(), np.random.get_state()
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def restore(self) -> None:
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


class _ModuleState:
    """What modules remember besides their weights: train or eval mode, buffers, counters.

    A dynamic rotary embedding, for one, grows its frequencies with the longest sequence it has seen.
    """

    def __init__(self, model: nn.Module) -> None:
        self._scalars = [(module, {name: value for name, value in vars(module).items()
                                   if isinstance(value, bool | int | float)}) for module in model.modules()]
        self._buffers = [(module, name, buffer, buffer.detach().to("cpu", copy=True)) for module in model.modules()
                         for name, buffer in module.named_buffers(recurse=False)]

    def restore(self) -> None:
        for module, scalars in self._scalars:
            vars(module).update(scalars)
        with torch.no_grad():
            for module, name, buffer, value in self._buffers:
                buffer.copy_(value)
                setattr(module, name, buffer)


class _Books:
    """The plain data among an object's attributes: counters, running metrics, buffered batches.

    trl's trainers add to `_metrics` and `_total_train_tokens` in `compute_loss`, and to whatever the next version has:
    so no name is listed here. Attributes that were not there before are taken away.
    """

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._names = set(vars(owner))
        self._kept = {name: copy.deepcopy(value) for name, value in vars(owner).items() if _is_plain(value)}

    def restore(self) -> None:
        for name in set(vars(self._owner)) - self._names:
            delattr(self._owner, name)
        vars(self._owner).update(self._kept)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple | set | deque):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _park(optimizer: torch.optim.Optimizer | None) -> list[tuple[dict[Any, Any], Any, torch.Tensor, torch.device]]:
    """Move the optimizer's state to the host: (where it belongs, its name, the tensor, its device).

    Paged states stay: they live in unified memory, outside the allocator, and lose their paging by a move.
    """
    parked = []
    for state in optimizer.state.values() if optimizer is not None else ():
        for name, value in list(state.items()):
            if isinstance(value, torch.Tensor) and value.device.type != "cpu" and not getattr(value, "is_paged", False):
                state[name] = value.to("cpu")
                parked.append((state, name, state[name], value.device))
    return parked
