"""Evaluation in a real run: a baseline, an early stop, the best checkpoint kept and made the result."""

import json
import math
from pathlib import Path

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
