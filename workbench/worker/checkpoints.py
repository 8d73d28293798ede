"""Checkpoints and the final model: complete or absent, kept by step."""

import errno
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.engine.figures import number
from workbench.engine.recipe import Recipe
from workbench.engine.runs.artefacts import step_of
from workbench.engine.runs.control import Command
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.going_on import saved_steps, set_aside
from workbench.engine.runs.manifest import MANIFEST, clear_leftovers, remove_complete, verify, write_complete
from workbench.engine.runs.resumable import TRAINING_STATE
from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.finite import refuse_not_finite
from workbench.worker.progress import Progress, ends_epoch
from workbench.worker.reporter import Reporter

if TYPE_CHECKING:
    from transformers import Trainer

_FULL_BELOW = 1 << 20  # bytes: what is left of a disk on which a writer met its end


class CheckpointCallback(TrainerCallback):
    """Writes a checkpoint every `save_steps`, on request, and when a run is stopped or paused; keeps the newest ones by
    step. It is written when all else of its step is done: the logs, the evaluation, the samples."""

    def __init__(self, recipe: Recipe, reporter: Reporter, stopwatch: Stopwatch, progress: Progress,
                 facts: dict[str, Any] | None = None) -> None:
        """`facts` are what the manifests say of the run."""
        self._recipe = recipe
        self._reporter = reporter
        self._stopwatch = stopwatch
        self._progress = progress
        self.facts = facts or {}
        self._asked: list[Command] = []
        self._due = False
        self._last_step = 0
        self._best: tuple[int, float] | None = None
        self._finite: torch.Tensor | None = None
        self.trainer: Trainer | None = None

    def watch(self, trainer: "Trainer") -> None:
        """Write the checkpoints of this trainer, in the place of its own, which are written over each other."""
        self.trainer = trainer
        trainer._save_checkpoint = lambda *_: self._save(trainer.state.global_step)

    def ask(self, command: Command) -> None:
        """Save after the current step, and acknowledge the command when it is done."""
        self._asked.append(command)

    def go_on_from(self, step: int) -> None:
        """This step's checkpoint is there."""
        self._last_step = step

    def remember(self) -> dict[str, Any]:
        """Which one is the best, for a resumed run."""
        return {"metric": self._recipe.training.metric_for_best_model, "best": self._best}

    def recall(self, memory: dict[str, Any]) -> None:
        """Go on with what `remember` gave, where it is still there and still the best."""
        if not memory["best"] or memory["metric"] != self._recipe.training.metric_for_best_model:
            return
        step, value = memory["best"]
        if verify(self._directory(step)) is None:
            self._best = (step, value)
        else:
            self._reporter.alert(f"The best checkpoint so far, of step {step}, is gone; where none that comes "
                                 "is better, the result is what training ends with.", "warning", self._last_step)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                       **kwargs: Any) -> None:
        """Say of the checkpoint that is gone on from that it is there, where the one who wrote it died before."""
        step = state.global_step
        if step and not self._reporter.said(f'"path":"{self.path_of(step)}"'):
            self._report(step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                    **kwargs: Any) -> TrainerControl:
        """Have it saved when it is time, somebody asked, or the run was told to stop short of its end."""
        if self.trainer is not None:
            # Asked on the device, where it waits for nothing.
            loss, before = self.trainer._tr_loss, self._finite
            now = torch.full_like(loss, state.global_step)
            self._finite = torch.where(torch.isfinite(loss), now, now - 1 if before is None else before)
        every = self._recipe.training.save_steps
        stopped = control.should_training_stop and state.global_step < state.max_steps
        self._due = bool(self._asked or stopped or (every and state.global_step % every == 0))
        # An epoch's last step is done when its end is evaluated.
        control.should_save |= self._due and not ends_epoch(state)
        return control

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                     **kwargs: Any) -> TrainerControl:
        """Save what waited for the epoch's evaluation."""
        control.should_save |= self._due
        return control

    def _save(self, step: int) -> None:
        self._due = False
        if step != self._last_step:
            with self._stopwatch.pause():
                self._write(step)
        for command in self._asked:
            self._reporter.command(command, f"saved {self.path_of(step)}")
        self._asked.clear()

    def _write(self, step: int) -> None:
        trainer = self.trainer
        assert trainer is not None
        refuse_not_finite(trainer)

        def fill(partial: Path) -> None:
            save_model(trainer, partial)
            # All but the weights under transformers' names, as its own loop reads them again.
            trainer._save_optimizer_and_scheduler(str(partial))
            trainer._save_scaler(str(partial))
            trainer._save_rng_state(str(partial))
            trainer.state.save_to_json(str(partial / "trainer_state.json"))
            self._progress.write(partial)

        self._complete(self._directory(step), fill, step)
        self._last_step = step
        # Said before it is done: whoever dies in between leaves too much, never a name without a checkpoint.
        old = self._old()
        self._report(step, old)
        for directory in old:
            remove_complete(directory)

    def _report(self, step: int, old: Sequence[Path] = ()) -> None:
        best = self._best[1] if self._best is not None and self._best[0] == step else None
        self._reporter.checkpoint(step, self.path_of(step), [self._shown(directory) for directory in old], best)

    def _complete(self, directory: Path, fill: Callable[[Path], None], step: int) -> None:
        def fill_while_there_is_space(partial: Path) -> None:
            try:
                fill(partial)
            except Exception as error:
                if shutil.disk_usage(partial).free < _FULL_BELOW:
                    # torch's writer only says that it failed.
                    raise OSError(errno.ENOSPC, "No space left on device", str(directory)) from error
                raise

        write_complete(directory, fill_while_there_is_space, {"step": step, **self.facts})

    def set_aside_poisoned(self) -> None:
        """After a loss or a gradient that was no number: what was saved just before it gives it again, whatever the
        recipe says."""
        if self.trainer is None or self._finite is None:
            return
        # With all losses finite it was the gradient of this very step, which made the weights what no loss was of yet.
        finite = int(self._finite)
        step = finite - 1 if finite == self.trainer.state.global_step else finite
        if step == self._last_step and self._directory(step).is_dir():
            set_aside(self._reporter.run, [step])
            self._reporter.alert(f"The checkpoint of step {step} is set aside: the next step's loss or gradient was no "
                                 "number, and would be again.", "warning", step)

    def keep_best(self, step: int, value: float) -> None:
        """This step is the best so far: once saved, it is kept until a better one comes."""
        self._best = (step, value)

    def save_final(self, step: int) -> None:
        """Write the trained adapter or model, with its tokenizer, to the run's `model` directory: the best checkpoint's
        where one was kept, else what training ended with."""
        trainer, best = self.trainer, self._best
        assert trainer is not None
        if best is not None and (fault := verify(self._directory(best[0]))) is not None:
            self._reporter.alert(f"The best checkpoint, of step {best[0]}, is damaged: {fault}. The result is what "
                                 f"step {step} ended with.", "warning", step)
            best = None
        if best is None:
            refuse_not_finite(trainer)
            self._complete(self._reporter.run.model, lambda partial: save_model(trainer, partial), step)
        else:
            saved = self._directory(best[0])
            self._complete(self._reporter.run.model, lambda partial: _copy_model(saved, partial), best[0])
        shutil.rmtree(_abandoned_model(self._reporter.run), ignore_errors=True)
        if best is None:
            return
        self._reporter.alert(f"The result is the checkpoint of step {best[0]}, the best of them: "
                             f"{self._recipe.training.metric_for_best_model} {number(best[1])}.", "info", step)

    def _directory(self, step: int) -> Path:
        return self._reporter.run.checkpoints / f"step-{step:08d}"

    def path_of(self, step: int) -> str:
        """A checkpoint as the journal names it."""
        return self._shown(self._directory(step))

    def _shown(self, directory: Path) -> str:
        return str(directory.relative_to(self._reporter.run.path))

    def _old(self) -> list[Path]:
        """Those that are neither among the newest nor the best."""
        directories = sorted(self._reporter.run.checkpoints.glob("step-*"))
        best = self._directory(self._best[0]) if self._best is not None else None
        return [path for path in directories[:-self._recipe.training.save_total_limit] if path != best]


def make_ready(run: RunDirectory, step: int) -> None:
    """Clear what a killed worker left half done, and set aside what was saved after `step`, of a branch that is given
    up: its checkpoints, and its result, until there is a new one."""
    for parent in (run.path, run.checkpoints):
        clear_leftovers(parent)
    set_aside(run, [saved for saved in saved_steps(run) if saved > step])
    if run.model.is_dir() and (step_of(run.model) or 0) > step:
        shutil.rmtree(_abandoned_model(run), ignore_errors=True)
        run.model.rename(_abandoned_model(run))


def _abandoned_model(run: RunDirectory) -> Path:
    return run.path / ".abandoned-model"


def _copy_model(checkpoint: Path, directory: Path) -> None:
    """What a checkpoint holds besides the state of its training."""
    shutil.copytree(checkpoint, directory, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns(MANIFEST, *TRAINING_STATE, "scaler.pt"))


def save_model(trainer: "Trainer", directory: Path) -> None:
    """Write the trained adapter or model, and its tokenizer, into a directory."""
    trainer.save_model(str(directory))
    # A pickle with this machine's paths in it; our recipe says the same and more.
    (directory / "training_args.bin").unlink(missing_ok=True)
    # trl's frozen copy of the adapter that training began with: peft saves every adapter there is.
    shutil.rmtree(directory / "ref", ignore_errors=True)
