"""Checkpoints and the final model: complete or absent, kept by step."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.engine.figures import number
from workbench.engine.recipe import Recipe
from workbench.engine.runs.manifest import MANIFEST, digest_json, verify, write_complete
from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.reporter import Reporter

if TYPE_CHECKING:
    from transformers import Trainer


_OPTIMIZER, _TRAINER_STATE = "optimizer.pt", "trainer_state.json"


class CheckpointCallback(TrainerCallback):
    """Writes a checkpoint every `save_steps`, on request, and when a run is stopped; keeps the newest ones by step."""

    def __init__(self, recipe: Recipe, reporter: Reporter, stopwatch: Stopwatch) -> None:
        self._recipe = recipe
        self._reporter = reporter
        self._stopwatch = stopwatch
        self._asked = False
        self._last_step = 0
        self._best: tuple[int, float] | None = None
        self.trainer: Trainer | None = None

    def ask(self) -> None:
        """Save after the current step."""
        self._asked = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                    **kwargs: Any) -> None:
        """Save when it is time, somebody asked, or the run was told to stop short of its end."""
        every = self._recipe.training.save_steps
        stopped = control.should_training_stop and state.global_step < state.max_steps
        if self._asked or stopped or (every and state.global_step % every == 0):
            self._asked = False
            with self._stopwatch.pause():
                self._save(state.global_step)

    def _save(self, step: int) -> None:
        trainer = self.trainer
        if trainer is None or step == self._last_step:
            return
        self._last_step = step

        def fill(partial: Path) -> None:
            save_model(trainer, partial)
            trainer.state.save_to_json(str(partial / _TRAINER_STATE))
            torch.save({"optimizer": trainer.optimizer.state_dict(), "scheduler": trainer.lr_scheduler.state_dict(),
                        "torch_rng": torch.get_rng_state()}, partial / _OPTIMIZER)

        write_complete(self._directory(step), fill, self._facts(step))
        self._report(step)

    def _report(self, step: int) -> None:
        best = self._best[1] if self._best is not None and self._best[0] == step else None
        self._reporter.checkpoint(step, self._shown(self._directory(step)), self._drop_old(), best)

    def keep_best(self, step: int, value: float) -> None:
        """This step is the best so far: it is saved, and kept until a better one comes."""
        self._best = (step, value)
        if step == self._last_step:
            self._report(step)
        else:
            with self._stopwatch.pause():
                self._save(step)

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
            write_complete(self._reporter.run.model, lambda partial: save_model(trainer, partial), self._facts(step))
            return
        write_complete(self._reporter.run.model, lambda partial: _copy_model(self._directory(best[0]), partial),
                       self._facts(best[0]))
        self._reporter.alert(f"The result is the checkpoint of step {best[0]}, the best of them: "
                             f"{self._recipe.training.metric_for_best_model} {number(best[1])}.", "info", step)

    def _directory(self, step: int) -> Path:
        return self._reporter.run.checkpoints / f"step-{step:08d}"

    def _shown(self, directory: Path) -> str:
        return str(directory.relative_to(self._reporter.run.path))

    def _facts(self, step: int) -> dict[str, Any]:
        import peft
        import transformers
        import trl

        return {"step": step, "recipe": digest_json(self._recipe.model_dump(mode="json")),
                "versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                             "trl": trl.__version__, "peft": peft.__version__}}

    def _drop_old(self) -> list[str]:
        directories = sorted(self._reporter.run.checkpoints.glob("step-*"))
        best = self._directory(self._best[0]) if self._best is not None else None
        old = [path for path in directories[:-self._recipe.training.save_total_limit] if path != best]
        for directory in old:
            shutil.rmtree(directory)
        return [self._shown(directory) for directory in old]


def _copy_model(checkpoint: Path, directory: Path) -> None:
    """What a checkpoint holds besides the state of its training."""
    shutil.copytree(checkpoint, directory, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns(MANIFEST, _OPTIMIZER, _TRAINER_STATE))


def save_model(trainer: "Trainer", directory: Path) -> None:
    """Write the trained adapter or model, and its tokenizer, into a directory."""
    trainer.save_model(str(directory))
    # A pickle with this machine's paths in it; our recipe says the same and more.
    (directory / "training_args.bin").unlink(missing_ok=True)
    # trl's frozen copy of the adapter that training began with: peft saves every adapter there is.
    shutil.rmtree(directory / "ref", ignore_errors=True)
