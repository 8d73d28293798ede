"""Going on from a checkpoint with transformers' own loop, where it is exact; what is not, is put right here.

The one place that steps into the trainer's private methods: each is called as transformers (5.23) has it, and
tests/worker/test_resume_exact.py compares whole journals.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer

from workbench.engine.catalog.models import ModelSource, read_config
from workbench.engine.errors import RunError
from workbench.engine.runs.artefacts import ADAPTER_WEIGHTS
from workbench.worker.loading import SCORE_HEAD, load_model
from workbench.worker.progress import Progress


def train(trainer: Trainer, progress: Progress, checkpoint: Path | None,
          stopped_early: Callable[[], bool] = lambda: False) -> None:
    """Train to the end; from a checkpoint that verifies, as if it had never been interrupted. `stopped_early`: whether
    what was restored from it had come to its end. Raises RunError."""
    if checkpoint is None:
        trainer.train()
        return
    progress.go_on_from(checkpoint)
    trainer.args.eval_on_start = False
    trainer._load_from_checkpoint = lambda path, model=None: load_weights(trainer.model, Path(path))
    trainer._run_epoch = _unless_done(trainer, checkpoint, trainer._run_epoch, stopped_early)
    trainer._load_optimizer_and_scheduler = _at_the_recipes_rate(trainer, trainer._load_optimizer_and_scheduler)
    if not hasattr(trainer.train_dataset, "__len__"):
        trainer._init_training_state = _at_its_place(trainer, progress, trainer._init_training_state)
    trainer.train(resume_from_checkpoint=str(checkpoint))


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Give the model the checkpoint's adapter or weights, all of them. Raises RunError when some are missing."""
    if isinstance(model, PeftModel):
        weights = load_file(checkpoint / ADAPTER_WEIGHTS)
        missing = set(get_peft_model_state_dict(model)) - weights.keys()
        if missing:
            raise RunError(f"{checkpoint.name} lacks {len(missing)} of the adapter's weights, {min(missing)} among "
                           "them.", "Go on from another checkpoint.")
        set_peft_model_state_dict(model, weights)
        return
    # As a model of its own: what transformers renames or joins when it loads, it does here too, and a missing weight is
    # an error, where the trainer's own loading would leave the one that was there.
    saved = load_model(ModelSource(str(checkpoint), "folder", checkpoint, read_config(checkpoint)),
                       dtype=model.dtype, device=torch.device("cpu"), attn_implementation="eager",
                       rewards=hasattr(model, SCORE_HEAD))
    model.load_state_dict(saved.state_dict(), strict=True)


def _at_the_recipes_rate(trainer: Trainer, load: Callable[..., None]) -> Callable[..., None]:
    """The optimizer's and the scheduler's state, with the learning rates that this recipe gives at this step: those of
    the checkpoint would stay for ever."""

    def loaded(checkpoint: str | None) -> None:
        rates = [group["initial_lr"] for group in trainer.optimizer.param_groups]
        load(checkpoint)
        scheduler = trainer.lr_scheduler
        if not isinstance(scheduler, LambdaLR):
            raise RunError(f"A {type(scheduler).__name__} cannot be resumed.", "Choose another lr_scheduler_type.")
        scheduler.base_lrs = rates
        now = [rate * factor(scheduler.last_epoch) for rate, factor in zip(rates, scheduler.lr_lambdas, strict=True)]
        for group, rate, current in zip(trainer.optimizer.param_groups, rates, now, strict=True):
            group["initial_lr"], group["lr"] = rate, current
        scheduler._last_lr = now

    return loaded


def _at_its_place(trainer: Trainer, progress: Progress, begin: Callable[..., Any]) -> Callable[..., tuple[int, int]]:
    """The place in a stream: transformers takes all steps for those of one endless pass."""

    def begun(*arguments: Any) -> tuple[int, int]:
        begin(*arguments)
        epoch, steps = progress.place_in_stream
        return epoch, steps * int(trainer.args.gradient_accumulation_steps)

    return begun


def _unless_done(trainer: Trainer, checkpoint: Path, run: Callable[..., None],
                 stopped_early: Callable[[], bool]) -> Callable[..., None]:
    """An epoch, where a step is left: transformers looks for the end behind each step, and would make one too many."""

    def run_epoch(*, model: nn.Module, trial: Any, epoch: int, ignore_keys_for_eval: Any, start_time: float,
                  **others: Any) -> None:
        over = trainer.state.global_step >= trainer.state.max_steps
        if not over and not stopped_early():
            run(model=model, trial=trial, epoch=epoch, ignore_keys_for_eval=ignore_keys_for_eval,
                start_time=start_time, **others)
            return
        trainer.control.should_training_stop = True
        if over and not stopped_early():
            # Where the last step is none of an epoch, what is due at an epoch's end comes after its checkpoint.
            trainer._load_rng_state(str(checkpoint))
            trainer.control = trainer.callback_handler.on_epoch_end(trainer.args, trainer.state, trainer.control)
            trainer._maybe_log_save_evaluate(trainer._tr_loss, None, model, trial, epoch, ignore_keys_for_eval,
                                             start_time)

    return run_epoch
