"""Guards at run time: training that trains nothing, or the wrong weights, says so instead of running on.

Known ways to get there: an optimizer without parameters (GRPO still logs metrics), checkpointing under PEFT that passes
no gradient, 16-bit weights too coarse for the step, labels that are masked altogether.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.engine.errors import RunError
from workbench.worker.reporter import Reporter
from workbench.worker.undisturbed import Fingerprints

PATIENCE = 10
"""Steps without any gradient, or answers that all earn the same, before it is said."""
_NAMED = 3


class NothingTrainedError(RunError):
    """What was to be trained does not move; going on would only cost time."""


class FrozenMovedError(RunError):
    """Weights that were to stay as they are have other bits than before."""


class GuardsCallback(TrainerCallback):
    """Watches one training. It reads weights: once before and after one step, and the frozen ones at both ends."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._frozen: Fingerprints | None = None
        self._first: _FirstStep | None = None
        self._still = self._same_rewards = self._without_gradient = 0
        self._step_before = -1
        self._began_at = 0

    def remember(self) -> dict[str, Any]:
        """What a resumed run goes on counting."""
        return {"same_rewards": self._same_rewards, "without_gradient": self._without_gradient}

    def recall(self, memory: dict[str, Any]) -> None:
        """Go on with what `remember` gave."""
        self._same_rewards = memory["same_rewards"]
        self._without_gradient = memory.get("without_gradient", 0)

    def watch(self, trainer: Trainer) -> None:
        """Look at every batch that the trainer's collator makes. Before training: its loader keeps the collator."""
        trainer.data_collator = CountingCollator(trainer.data_collator, lambda: trainer.state.global_step, self._alert)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                       model: PreTrainedModel | None = None, optimizer: torch.optim.Optimizer | None = None,
                       **kwargs: Any) -> None:
        """Refuse an optimizer that has nothing to train. Raises NothingTrainedError."""
        assert model is not None
        self._began_at = state.global_step
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        _refuse_what_is_left_out(trained, optimizer)
        self._first = _FirstStep(model, trained)
        self._frozen = Fingerprints([parameter for parameter in model.parameters() if not parameter.requires_grad])

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                              optimizer: torch.optim.Optimizer | None = None, **kwargs: Any) -> None:
        """Note gradients and weights, until a step has been looked at that could move something."""
        rates = [float(group["lr"]) for group in getattr(optimizer, "param_groups", ()) if group["params"]]
        if self._first is None or not any(rates):
            return
        if self._first.begin():
            return
        self._still += 1
        if self._still == PATIENCE:
            self._alert(f"The first {PATIENCE} steps had no gradient at all: nothing was learned so far.",
                        state.global_step + 1)

    def on_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                          **kwargs: Any) -> None:
        """See what moved. Raises NothingTrainedError."""
        if self._first is None or not self._first.begun:
            return
        first, self._first = self._first, None
        step = state.global_step + 1
        for note in first.judge(step):
            self._alert(note, step)
        self._reporter.guarded("moved", step=step, tensors=len(first.trained))

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                     **kwargs: Any) -> None:
        """Refuse a stream too short for a step: transformers gathers no gradients across its end, and would go through
        it for ever. Raises NothingTrainedError."""
        if state.global_step == self._step_before and not control.should_training_stop:
            batches = args.gradient_accumulation_steps
            raise NothingTrainedError(
                f"All rows went by without one optimizer step: a step takes {batches} batches of "
                f"{args.per_device_train_batch_size}, and the stream ends before.",
                "Leave dataset.streaming out, or lower training.gradient_accumulation_steps.")
        self._step_before = state.global_step

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
               logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Say so when nothing is learned any more: a collapsed model has no gradient, and reinforcement learning learns
        from differences between the answers to a prompt."""
        share = (logs or {}).get("frac_reward_zero_std")
        if share is None:
            self._see_gradient((logs or {}).get("grad_norm"), state.global_step)
            return
        self._same_rewards = self._same_rewards + 1 if share >= 1 else 0
        if self._same_rewards == PATIENCE:
            self._alert(f"In the last {PATIENCE} logged steps all answers to a prompt earned the same reward, so "
                        "nothing was learned from them. Check rlhf.reward, or raise rlhf.temperature.",
                        state.global_step)

    def _see_gradient(self, norm: float | None, step: int) -> None:
        if norm is None:
            return
        self._without_gradient = self._without_gradient + 1 if norm == 0 else 0
        if self._without_gradient == PATIENCE:
            self._alert(f"In the last {PATIENCE} logged steps the gradient was exactly 0, so nothing is learned any "
                        "more: the model has collapsed. Lower training.learning_rate, and go on from an earlier "
                        "checkpoint (resume --from STEP) or begin anew.", step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                     model: PreTrainedModel | None = None, **kwargs: Any) -> None:
        """Say so when a run too short for the guard's patience learned nothing, and compare the frozen weights with
        what they were. Raises FrozenMovedError."""
        if self._first is not None and state.global_step > self._began_at and self._still < PATIENCE:
            self._alert("No step had both a gradient and a learning rate above zero: nothing was learned.",
                        state.global_step)
        if self._frozen is None:
            return
        if changed := len(self._frozen.changed_places()):
            raise FrozenMovedError(f"{changed} of {len(self._frozen)} frozen weight tensors changed during training.",
                                   "Nothing may touch them: report this with the recipe.")
        self._reporter.guarded("frozen", step=state.global_step, tensors=len(self._frozen))

    def _alert(self, message: str, step: int) -> None:
        self._reporter.alert(message, step=step)


class _FirstStep:
    """One optimizer step under the eye of the guard: what was reached, what had a gradient, and what moved."""

    def __init__(self, model: nn.Module, trained: Mapping[str, nn.Parameter]) -> None:
        self.trained = dict(trained)
        self.begun = False
        self._reached: set[int] = set()
        self._owners = {id(parameter): module for module in model.modules()
                        for parameter in module.parameters(recurse=False) if parameter.requires_grad}
        self._hooks = [module.register_forward_pre_hook(lambda module, _: self._reached.add(id(module)))
                       for module in {id(module): module for module in self._owners.values()}.values()]
        self._before: Fingerprints | None = None
        self._gradients: list[bool] = []

    def begin(self) -> bool:
        """Note what the step starts from. False when no weight has a gradient other than zero, as in a step whose
        answers all earned the same; but weights that are not part of the loss at all are for `judge`."""
        gradients = [parameter.grad for parameter in self.trained.values()]
        flags = [torch.zeros(()) if gradient is None else gradient.detach().any().to("cpu", torch.float32)
                 for gradient in gradients]
        self._gradients = [bool(flag) for flag in torch.stack(flags).tolist()]
        if not any(self._gradients) and any(gradient is not None for gradient in gradients):
            return False
        self._before = Fingerprints(list(self.trained.values()))
        self.begun = True
        return True

    def judge(self, step: int) -> Iterable[str]:
        """What the user should know of weights that stayed. Raises NothingTrainedError where something is broken."""
        assert self._before is not None
        for hook in self._hooks:
            hook.remove()
        names = list(self.trained)
        moved = {names[place] for place in self._before.changed_places()}
        with_gradient = {name for name, had in zip(names, self._gradients, strict=True) if had}
        still = [name for name in names if name not in moved and not _waits_for_its_partner(name, moved)]
        reached = {name for name in still if id(self._owners[id(self.trained[name])]) in self._reached}
        broken = [name for name in still if name in reached and name not in with_gradient]
        if broken:
            raise NothingTrainedError(
                f"{len(broken)} of {len(names)} trained tensors had no gradient in step {step}, though the model used "
                f"them: {_some(broken)}.", "Set training.gradient_checkpointing: false, and report this if it helps.")
        if not moved:
            raise NothingTrainedError(
                f"No trained tensor changed in step {step}: the learning rate is too small for {self._formats()} "
                "weights.", "Raise training.learning_rate, or set training.dtype: float32.")
        coarse = [name for name in still if name in with_gradient]
        if coarse:
            yield (f"{len(coarse)} of {len(names)} trained tensors did not change in step {step}: the step is too "
                   f"small for {self._formats()} ({_some(coarse)}). training.dtype: float32 would let them move.")
        unused = [name for name in still if name not in reached and name not in with_gradient]
        if unused:
            yield (f"{len(unused)} of {len(names)} trained tensors belong to parts of the model that step {step} never "
                   f"used, such as experts without a token or an image tower: {_some(unused)}.")

    def _formats(self) -> str:
        return "/".join(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in self.trained.values()}))


def _waits_for_its_partner(name: str, moved: set[str]) -> bool:
    """LoRA's A has a gradient of zero as long as B is zero, which it is before the first step."""
    return "lora_" in name and name.replace("_A.", "_B.") in moved


def _refuse_what_is_left_out(trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer | None) -> None:
    held = {id(parameter) for group in getattr(optimizer, "param_groups", ()) for parameter in group["params"]}
    if not trained or not held:
        raise NothingTrainedError("The optimizer has no parameters to train.", "Check lora.target_modules.")
    if missing := [name for name, parameter in trained.items() if id(parameter) not in held]:
        raise NothingTrainedError(f"{len(missing)} of {len(trained)} trained tensors are not in the optimizer: "
                                  f"{_some(missing)}.")


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class CountingCollator:
    """A trainer's collator that notices batches without a single trained token. Everything else of it shows through."""

    def __init__(self, collator: Any, step: Callable[[], int], alert: Callable[[str, int], None]) -> None:
        self._collator, self._step, self._alert = collator, step, alert
        self._empty = 0

    def __call__(self, rows: Any, *arguments: Any, **keywords: Any) -> Any:
        """The batch, counted."""
        batch = self._collator(rows, *arguments, **keywords)
        if trained_tokens(batch) == 0:
            self._empty += 1
            if self._empty in (1, 10, 100, 1000):
                times = "A batch" if self._empty == 1 else f"{self._empty} batches so far"
                self._alert(f"{times} had no trained token: every label is masked, by the template or by max_length.",
                            self._step())
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collator, name)


def trained_tokens(batch: Any) -> int | None:
    """Tokens of a collated batch that the loss counts; None where it holds neither labels nor a mask of answers."""
    if not isinstance(batch, Mapping):
        return None
    if "labels" in batch:
        return int((batch["labels"][..., 1:] != -100).sum())
    masks = [batch[name] for name in ("completion_mask",) if name in batch]
    return int(sum(mask.sum() for mask in masks)) if masks else None
