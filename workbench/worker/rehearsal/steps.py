"""The steps of training, one after the other, with the moments of each marked: real trainer, tensors real or fake."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from transformers import Trainer

from workbench.worker.rehearsal.storages import StorageTracker

LOSS, BEFORE, OPTIMIZER = "the loss", "the start of the forward pass", "the optimizer step"
EMBEDDING = "the backward pass of the embedding"
GENERATION, SAMPLING = "the generation of answers", "the sampling of a token"
FORWARD, BACKWARD = "the forward pass", "the backward pass"


class Marks:
    """Hooks on decoder blocks that tell a tracker which block runs, forward or backward."""

    def __init__(self, tracker: StorageTracker, model: nn.Module, stacks: Iterable[nn.ModuleList]) -> None:
        self._tracker = tracker
        self._backward, self._names = False, (FORWARD, LOSS)
        # With the forward pass ends autocast, and its copies of fp32 weights are freed.
        self._handles = [model.register_forward_hook(lambda *_: tracker.begin(self._names[1], "logits"))]
        for number, blocks in enumerate(stacks):
            for place, block in enumerate(blocks):
                self._handles += [block.register_forward_pre_hook(self._before(number, place), with_kwargs=True),
                                  block.register_forward_hook(self._after(number, place, place == len(blocks) - 1))]

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def forward(self) -> None:
        """A micro-batch begins."""
        self._backward, self._names = False, (FORWARD, LOSS)
        self._tracker.begin(BEFORE)

    def rollout(self) -> None:
        """Answers are sampled, without gradients."""
        self._backward, self._names = False, (GENERATION, SAMPLING)
        self._tracker.begin(SAMPLING)

    def _before(self, stack: int, place: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self._backward:
                return
            self._tracker.begin(self._names[0], stack=stack, layer=place)
            if place == 0:
                self._on_gradient(_hidden_states(args or tuple(kwargs.values())), EMBEDDING)
        return hook

    def _after(self, stack: int, place: int, last: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if self._backward:
                return
            self._on_gradient(_hidden_states(output), BACKWARD, stack, place)
            if last:
                self._tracker.begin(self._names[1], "logits")
        return hook

    def _on_gradient(self, tensor: torch.Tensor | None, name: str, stack: int | None = None,
                     place: int | None = None) -> None:
        if tensor is None or not tensor.requires_grad or not torch.is_grad_enabled():
            return

        def arrived(gradient: torch.Tensor) -> None:
            self._backward = True
            self._tracker.begin(name, stack=stack, layer=place)
        tensor.register_hook(arrived)


def _hidden_states(value: Any) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value
    return _hidden_states(value[0]) if isinstance(value, tuple) and value else None


def run_steps(trainer: Trainer, batch: dict[str, Any], tracker: StorageTracker, marks: Marks,
              rollout: Callable[[], None] | None = None) -> None:
    """Two optimizer steps: the first makes the optimizer's states. Where gradients are accumulated, the second has two
    micro-batches, the latter with gradients alive. `rollout` samples what the second step learns from.

    Follows transformers' Trainer._inner_training_loop: training_step, clipping, step, zero_grad.
    """
    model = trainer.model_wrapped
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.register_post_accumulate_grad_hook(
            lambda p: tracker.add([p.grad], "gradients") if p.grad is not None else None)
    accumulates = trainer.args.gradient_accumulation_steps > 1
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    _micro_batch(trainer, batch, tracker, marks)
    _optimizer_step(trainer, trained, tracker)
    if rollout is not None:
        marks.rollout()
        rollout()
    for _ in range(2 if accumulates else 1):
        _micro_batch(trainer, batch, tracker, marks)
    _optimizer_step(trainer, trained, tracker)
    tracker.finish()


def _micro_batch(trainer: Trainer, batch: dict[str, Any], tracker: StorageTracker, marks: Marks) -> None:
    marks.forward()
    # None, as when a batch's labels cannot be counted, would divide by the tokens of the batch alone: same memory.
    trainer.training_step(trainer.model_wrapped, dict(batch), num_items_in_batch=None)


def _optimizer_step(trainer: Trainer, trained: list[nn.Parameter], tracker: StorageTracker) -> None:
    tracker.begin(OPTIMIZER, "workspace")
    if trainer.args.max_grad_norm > 0:
        torch.nn.utils.clip_grad_norm_(trained, trainer.args.max_grad_norm)
    trainer.optimizer.step()
    tracker.add((value for state in trainer.optimizer.state.values() for value in state.values()
                 if isinstance(value, torch.Tensor)), "optimizer")
    trainer.optimizer.zero_grad()


def prepare(trainer: Trainer, cuda: bool) -> None:
    """What Trainer.train does before its first step: the optimizer, checkpointing, autocast around the model."""
    if trainer.args.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    # bitsandbytes computes its code books here: they must be real numbers.
    with _disable_current_modes():
        trainer.create_optimizer()
    for group in trainer.optimizer.param_groups if cuda else ():
        if group.get("foreach", False) is None and not group.get("fused"):
            group["foreach"] = True  # what torch.optim chooses by itself on a GPU
    trainer.model_wrapped = trainer.accelerator.prepare_model(trainer.model, device_placement=False)
    trainer.model_wrapped.train()
