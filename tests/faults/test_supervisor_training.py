"""The supervisor over real training: a killed worker goes on by itself, a killed supervisor is replaced, a paused run
is resumed, and what comes out is what an uninterrupted run would have given."""

import json
import signal
from pathlib import Path

import pytest

from tests.conftest import RunCommand
from tests.faults.stand_ins import identity, look, wait_for
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.liveness import lock_holder
from workbench.engine.runs.store import read_status

pytestmark = pytest.mark.slow

RECIPE = """\
model: tiny-base
dataset: {path: glossary, max_rows: 64}
training: {max_steps: 60, per_device_train_batch_size: 2, gradient_accumulation_steps: 1, learning_rate: 1e-3,
  max_length: 96, logging_steps: 1, save_steps: 10, gradient_checkpointing: false}
hardware: {probe: false}
on_failure: {resume: 1}
"""


def launched(workbench: RunCommand, recipe: Path) -> RunDirectory:
    result = workbench("train", str(recipe), "--detach", "--json")
    assert result.returncode == 0, result.stderr
    return RunDirectory(Path(json.loads(result.stdout)["directory"]))


def losses(run: RunDirectory) -> dict[int, float]:
    series = look(run).state.metrics["train/loss"]
    return dict(zip(series.steps, series.values, strict=True))


def test_kills_and_pauses_change_no_loss(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / "killed.yaml"
    recipe.write_text(RECIPE)
    whole = launched(workbench, recipe)
    wait_for(lambda: look(whole).ended, 120)
    assert (look(whole).name, len(losses(whole))) == ("finished", 60)

    run = launched(workbench, recipe)
    wait_for(lambda: look(run).state.step >= 14, 90)
    assert identity(run, "worker").signal(signal.SIGKILL)
    wait_for(lambda: look(run).state.restarts == 1 and look(run).state.step > 16, 90)
    # The supervisor dies: training goes on, and another one takes it over.
    worker = identity(run, "worker")
    assert identity(run, "supervisor").signal(signal.SIGKILL)
    wait_for(lambda: look(run).name == "crashed", 5)
    adopted = workbench("resume", run.id, "--detach")
    assert (adopted.returncode, adopted.stdout) == (0, f"{run.id}\n"), adopted.stderr
    assert "still trains, without a supervisor: a new one takes it over." in adopted.stderr
    assert read_status(run)["worker"]["pid"] == worker.pid

    paused = workbench("pause", run.id)
    assert "was asked to pause; it saves after its current step and leaves its GPU" in paused.stdout, paused.stderr
    wait_for(lambda: look(run).name == "paused" and lock_holder(run.lock) is None, 30)
    step = look(run).state.step
    assert step < 60, "it finished before it could be paused"
    refused = workbench("resume", run.id, "--set", "lora.lora_r=4")
    assert (refused.returncode, "lora.lora_r was 16, and is 4 now." in refused.stderr) == (2, True)
    went_on = workbench("resume", run.id, "--json")
    assert went_on.returncode == 0, went_on.stderr
    assert went_on.stderr == f"{run.id} goes on from step {step}.\n"
    document = json.loads(went_on.stdout)
    assert (document["id"], document["state"], document["resumed_from"]) == (run.id, "finished", step)
    assert losses(run) == losses(whole)
    done = workbench("resume", run.id)
    assert (done.returncode, "is finished; there is nothing to resume" in done.stderr) == (1, True)
