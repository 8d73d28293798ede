"""The probe: the worst case of a run, tried on the real device before the first step, and every trace of it removed."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.errors import InputError, RunError
from workbench.engine.memory.estimate import estimate_memory
from workbench.engine.objectives import OBJECTIVES
from workbench.engine.planning import memory_case
from workbench.engine.recipe import Recipe
from workbench.engine.runs.postmortem import LESS_MEMORY
from workbench.worker.callbacks.samples import answer_first
from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.memory_meter import MemoryMeter, release
from workbench.worker.reporter import Reporter
from workbench.worker.undisturbed import Fingerprints, still_optimizer, undisturbed
from workbench.worker.worst_case import WorstCase, worst_case

TRAINING, STEP, EVALUATION, GENERATION = "forward and backward", "optimizer step", "evaluation", "generation"
_FIXES = {
    EVALUATION: "Lower training.per_device_eval_batch_size.",
    GENERATION: "Lower samples.max_new_tokens, or ask fewer samples.prompts.",
}


class ProbeOutOfMemoryError(RunError):
    """The worst case does not fit: said before a step is lost, with where it happened."""


class ProbeCallback(TrainerCallback):
    """Probes when training is about to begin: model, optimizer and data are then exactly what training will use."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, reporter: Reporter,
                 stopwatch: Stopwatch) -> None:
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._reporter = reporter
        self._stopwatch = stopwatch
        self.trainer: Trainer | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                       **kwargs: Any) -> None:
        """Probe, report, count peaks anew, unless the recipe does without. Raises ProbeOutOfMemoryError."""
        if not self._recipe.hardware.probe:
            return
        assert self.trainer is not None
        began = time.monotonic()
        self._reporter.phase("probing memory with the longest rows")
        with self._stopwatch.pause():
            probe = Probe(self.trainer, self._recipe, self._tokenizer)
            probe.run()
            release(self.trainer.args.device)
        self._reporter.probed(**probe.to_event(), seconds=round(time.monotonic() - began, 3))
        self._reporter.phase(f"going on from step {state.global_step}" if state.global_step else "first step")


class Probe:
    """One probe of one trainer that is ready to train.

    The order is that of a run whose optimizer already has its state: a first micro-batch and step create it, then the
    micro-batch is measured beside it; where gradients accumulate twice, since the second has the first's beside it.
    """

    def __init__(self, trainer: Trainer, recipe: Recipe, tokenizer: PreTrainedTokenizerBase,
                 train: WorstCase | None = None, beside_state: bool | None = None) -> None:
        """`train` is the batch to try; by default the longest rows of the trainer's own dataset. `beside_state`: once
        more beside the optimizer's state; by default on a GPU. On a CPU resident memory says too little to be worth
        another micro-batch of its time."""
        self._trainer = trainer
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._device = trainer.args.device
        self._beside_state = self._device.type == "cuda" if beside_state is None else beside_state
        self.meter = MemoryMeter(self._device)
        loader = trainer.callback_handler.train_dataloader
        if loader is None:  # a stream's loader has no length, by which it could be told from nothing
            loader = trainer.get_train_dataloader()
        self._train = train or worst_case(loader, recipe.training.per_device_train_batch_size)

    def run(self) -> None:
        """Measure every phase. Raises ProbeOutOfMemoryError, and RunError when the optimizer moved the weights."""
        trainable = [parameter for parameter in self._trainer.model.parameters() if parameter.requires_grad]
        before = Fingerprints(trainable)
        with undisturbed(self._trainer), self._explaining_out_of_memory():
            release(self._device)
            self._train_and_evaluate(trainable)
        if changed := before.changed():
            optim = self._recipe.training.optim
            raise RunError(f"{optim} changed {changed} tensors in the memory probe, though its learning rate and its "
                           "gradients were zero.", "Set hardware.probe: false for this optimizer.")

    def _train_and_evaluate(self, trainable: list[torch.nn.Parameter]) -> None:
        with self.meter.phase(TRAINING):
            self._micro_batch()
        optimizer = still_optimizer(self._trainer)
        with self.meter.phase(STEP):
            self._step(optimizer, trainable)
        optimizer.zero_grad(set_to_none=True)
        if self._beside_state:
            with self.meter.phase(TRAINING):
                for _ in range(min(self._recipe.training.gradient_accumulation_steps, 2)):
                    self._micro_batch()
            optimizer.zero_grad(set_to_none=True)
        if self._trainer.eval_dataset is not None:
            with self.meter.phase(EVALUATION):
                self._evaluate()
        objective = OBJECTIVES[self._recipe.objective]
        if self._recipe.samples.prompts and objective.generates:
            with self.meter.phase(GENERATION):
                answer_first(self._trainer.model, self._tokenizer, self._recipe.samples, objective.conversational)

    def _micro_batch(self) -> None:
        trainer = self._trainer
        # The training loop counts these for each step; a trainer that has not begun does not have them.
        trainer.current_gradient_accumulation_steps = self._recipe.training.gradient_accumulation_steps
        (batch,), items = trainer.get_batch_samples(iter([copy.copy(self._train.batch)]), 1, self._device)
        trainer.training_step(trainer.model_wrapped, batch, items)

    def _step(self, optimizer: torch.optim.Optimizer, trainable: list[torch.nn.Parameter]) -> None:
        if self._recipe.training.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(trainable, self._recipe.training.max_grad_norm)
        for parameter in trainable:
            if parameter.grad is not None:
                parameter.grad.zero_()
        optimizer.step()

    def _evaluate(self) -> None:
        trainer = self._trainer
        held_out = worst_case(trainer.get_eval_dataloader(), self._recipe.training.per_device_eval_batch_size)
        trainer.model_wrapped.eval()
        trainer.prediction_step(trainer.model_wrapped, held_out.batch, prediction_loss_only=True)

    @contextmanager
    def _explaining_out_of_memory(self) -> Iterator[None]:
        try:
            yield
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            where = self.meter.current
            raise ProbeOutOfMemoryError(
                f"The memory probe ran out of memory before the first step, in {where} of the longest rows "
                f"({self._train.rows} rows of {self._train.tokens:,} tokens): {error}",
                _FIXES.get(where, LESS_MEMORY)) from None

    def to_event(self) -> dict[str, Any]:
        """The fields of the `probed` event: bytes by phase and over all, what was probed, and its own estimate."""
        peak = self.meter.peak
        return {
            "device": self._device.type,
            "peak_allocated": peak.allocated, "peak_reserved": peak.reserved, "peak_resident": peak.resident,
            "by_phase": {name: phase.to_json() for name, phase in self.meter.phases.items()},
            "rows": self._train.rows, "tokens": self._train.tokens, "rows_looked_at": self._train.looked_at,
            "estimated": estimate_for(self._recipe, self._trainer.model, self._train, self._device),
        }


def estimate_for(recipe: Recipe, model: PreTrainedModel, train: WorstCase, device: torch.device) -> int | None:
    """What the closed form says of the very batch that was probed, in bytes of CUDA's allocator: rows may be shorter
    than `max_length`, and only like can be held against like. None where it has no answer, and on a CPU."""
    if device.type != "cuda" or not train.tokens:
        return None
    case = replace(memory_case(recipe), max_length=train.tokens, per_device_train_batch_size=train.rows)
    try:
        return estimate_memory(architecture_from_config(model.config.to_dict()), case).peak_bytes
    except InputError:
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is an allocation that failed, on a GPU or by the host's allocator."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
