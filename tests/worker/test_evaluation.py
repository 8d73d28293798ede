"""Evaluation in a real run: a baseline, an early stop, the best checkpoint kept and made the result."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCommand
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.manifest import verify
from workbench.engine.runs.store import read_json

pytestmark = pytest.mark.slow

# Sixteen rows at this rate are soon known by heart: what is held out gets better first, then worse.
RECIPE = """\
name: overfits
model: tiny-base
dataset: {path: glossary, eval_path: glossary-held-out, max_rows: 16}
tuning: full
training:
  max_steps: 100
  per_device_train_batch_size: 8
  per_device_eval_batch_size: 16
  gradient_accumulation_steps: 1
  gradient_checkpointing: false
  learning_rate: 3e-3
  warmup_steps: 0
  max_length: 96
  logging_steps: 2
  eval_steps: 2
  save_steps: 5
  save_total_limit: 1
  early_stopping_patience: 4
  load_best_model_at_end: true
hardware: {probe: false}
"""


def test_the_best_checkpoint_is_kept_and_becomes_the_result(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / "overfits.yaml"
    recipe.write_text(RECIPE)
    result = workbench("train", str(recipe), "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    run = RunDirectory(Path(shown["directory"]))

    losses = dict(shown["metrics"]["eval/loss"])
    best = min((step for step in losses if step), key=lambda step: losses[step])
    assert 0 in losses, "what it was before training is the baseline"
    assert all(math.isclose(value, math.exp(losses[step])) for step, value in shown["metrics"]["eval/perplexity"])
    assert (shown["state"], shown["step"]) == ("finished", best + 4 * 2)
    assert shown["step"] < shown["total_steps"]

    kept = {checkpoint["step"]: checkpoint for checkpoint in shown["checkpoints"]}
    assert [step for step, checkpoint in kept.items() if checkpoint["best"]] == [best]
    assert kept[best]["metric"] == pytest.approx(losses[best])
    assert sorted(path.name for path in run.checkpoints.iterdir()) == sorted(f"step-{step:08d}" for step in kept)
    assert max(kept) > best, "the newest one is kept beside it"
    assert verify(run.model) is None
    assert read_json(run.model / "manifest.json")["step"] == best
    saved = (run.checkpoints / f"step-{best:08d}" / "model.safetensors").read_bytes()
    assert (run.model / "model.safetensors").read_bytes() == saved
    assert not (run.model / "optimizer.pt").exists()
    words = " ".join(alert["message"] for alert in shown["alerts"])
    assert f"Stopped early at step {shown['step']}" in words
    assert f"The result is the checkpoint of step {best}" in words
    assert f"step {best} (best: " in workbench("show", "last").stdout


def test_a_metric_that_no_evaluation_has_is_refused_before_training(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / "unknown.yaml"
    recipe.write_text(RECIPE)
    result = workbench("train", str(recipe), "--json", "--set", "training.metric_for_best_model=eval/accuracy")
    shown = json.loads(result.stdout)
    assert (shown["state"], shown["step"]) == ("failed", 0)
    assert "eval/accuracy, which an evaluation of this run has not" in shown["explanation"]
    assert "eval/loss, eval/mean_token_accuracy" in shown["suggestion"]


class Notes:
    """In the place of the checkpoints and the journal: what was asked of them."""

    def __init__(self) -> None:
        self.best: list[int] = []
        self.words: list[str] = []

    def keep_best(self, step: int, value: float) -> None:
        self.best.append(step)

    def alert(self, message: str, level: str = "warning", step: int = 0) -> None:
        self.words.append(message)

    def eval(self, step: int, metrics: dict[str, float]) -> None:
        pass


def judge(values: list[float], *overrides: str) -> tuple[Notes, list[bool]]:
    """What is kept, said and stopped when a metric goes through these values, the first of them before training."""
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from workbench.engine.recipe_file import parse_recipe
    from workbench.worker.callbacks.evaluation import EvaluationCallback
    from workbench.worker.callbacks.stopwatch import Stopwatch

    recipe = parse_recipe(RECIPE, overrides=["training.early_stopping_patience=2", *overrides])
    notes: Any = Notes()
    callback = EvaluationCallback(recipe, notes, Stopwatch(), notes)
    arguments = TrainingArguments(output_dir="unused", use_cpu=True)
    name = recipe.training.metric_for_best_model.replace("eval/", "eval_")
    stops = []
    for step, value in enumerate(values):
        state, control = TrainerState(global_step=step, max_steps=100), TrainerControl()
        callback.on_log(arguments, state, control, logs={name: value})
        stops.append(callback.on_evaluate(arguments, state, control).should_training_stop)
    callback.on_train_end(arguments, state, control)
    return notes, stops


def test_what_was_there_before_training_does_not_compete_but_is_compared_with() -> None:
    notes, stops = judge([1.0, 3.0, 2.0, 2.5, 2.0])
    assert notes.best == [1, 2]
    assert stops == [False, False, False, False, True]
    assert notes.words == [
        "Stopped early at step 4: in the last 2 evaluations eval/loss was not better than at step 2 (2).",
        "eval/loss was never better than before training (1): at its best it was 2, at step 2."]


def test_more_may_be_better_and_nan_never_is() -> None:
    nan = math.nan
    notes, stops = judge([0.1, 0.2, nan, 0.3, nan, 0.3], "training.metric_for_best_model=eval/rewards/margins")
    assert notes.best == [1, 3]
    assert stops == [False, False, False, False, False, True]
    notes, stops = judge([nan, nan, nan])
    assert notes.best == []
    assert notes.words == ["Stopped early at step 2: eval/loss was no number in the last 2 evaluations."]
