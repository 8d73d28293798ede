"""Checkpoints and the final model: complete or absent, kept by step."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.engine.recipe import Recipe
from workbench.engine.runs.manifest import digest_json, write_complete
from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.reporter import Reporter

if TYPE_CHECKING:
    from transformers import Trainer


class CheckpointCallback(TrainerCallback):
    """Writes a checkpoint every `save_steps`, on request, and when a run is stopped; keeps the newest ones by step."""

    def __init__(self, recipe: Recipe, reporter: Reporter, stopwatch: Stopwatch) -> None:
        self._recipe = recipe
        self._reporter = reporter
        self._stopwatch = stopwatch
        self._asked = False
        self._last_step = 0
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
        directory = self._reporter.run.checkpoints / f"step-{step:08d}"

        def fill(partial: Path) -> None:
            _save_model(trainer, partial)
            trainer.state.save_to_json(str(partial / "trainer_state.json"))
            torch.save({"optimizer": trainer.optimizer.state_dict(), "scheduler": trainer.lr_scheduler.state_dict(),
                        "torch_rng": torch.get_rng_state()}, partial / "optimizer.pt")

        write_complete(directory, fill, self._facts(step))
        self._reporter.checkpoint(step, str(directory.relative_to(self._reporter.run.path)), self._drop_old())

    def save_final(self, step: int) -> None:
        """Write the trained adapter or model, with its tokenizer, to the run's `model` directory."""
        trainer = self.trainer
        assert trainer is not None
        write_complete(self._reporter.run.model, lambda partial: _save_model(trainer, partial), self._facts(step))

    def _facts(self, step: int) -> dict[str, Any]:
        import peft
        import transformers
        import trl

        return {"step": step, "recipe": digest_json(self._recipe.model_dump(mode="json")),
                "versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                             "trl": trl.__version__, "peft": peft.__version__}}

    def _drop_old(self) -> list[str]:
        directories = sorted(self._reporter.run.checkpoints.glob("step-*"))
        old = directories[:-self._recipe.training.save_total_limit]
        for directory in old:
            shutil.rmtree(directory)
        return [str(directory.relative_to(self._reporter.run.path)) for directory in old]


def _save_model(trainer: "Trainer", directory: Path) -> None:
    trainer.save_model(str(directory))
    # A pickle with this machine's paths in it; our recipe says the same and more.
    (directory / "training_args.bin").unlink(missing_ok=True)
