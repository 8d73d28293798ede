"""Runs outlive what started them; a stop saves what was learned. Real processes, real signals, real training."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import RunCommand
from workbench.engine.runs.control import send_command
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.liveness import ProcessIdentity
from workbench.engine.runs.store import RunFollower, read_status

pytestmark = pytest.mark.slow

RECIPE = """\
model: tiny-base
dataset: {path: glossary, max_rows: 64}
training: {max_steps: 4000, per_device_train_batch_size: 1, gradient_accumulation_steps: 1, learning_rate: 1e-4,
  max_length: 96, logging_steps: 1, save_steps: null, gradient_checkpointing: false}
"""


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@pytest.fixture
def follower(workbench: RunCommand, tmp_path: Path) -> RunFollower:
    """A run that trains."""
    recipe = tmp_path / "long.yaml"
    recipe.write_text(RECIPE)
    result = workbench("train", str(recipe), "--detach", "--json")
    assert result.returncode == 0, result.stderr
    return RunFollower(RunDirectory(Path(json.loads(result.stdout)["directory"])))


def fresh(follower: RunFollower) -> RunFollower:
    follower.refresh()
    return follower


def trained(follower: RunFollower, steps: int) -> Callable[[], bool]:
    return lambda: fresh(follower).state.step >= steps


def identity(follower: RunFollower, role: str) -> ProcessIdentity:
    found = ProcessIdentity.from_json(read_status(follower.run).get(role))
    assert found is not None
    return found


def test_a_run_outlives_its_launcher_and_its_viewer(follower: RunFollower) -> None:
    wait_for(trained(follower, 3))
    parent = psutil.Process(identity(follower, "supervisor").pid).parent()
    assert parent is None or parent.pid != os.getpid()
    viewer = subprocess.Popen([sys.executable, "-m", "workbench", "watch", follower.run.id], stdout=subprocess.PIPE,
                              stdin=subprocess.DEVNULL)
    assert viewer.stdout is not None
    viewer.stdout.readline()
    viewer.kill()
    viewer.wait()
    step = follower.state.step
    wait_for(trained(follower, step + 5))
    steps = list(follower.state.metrics["train/loss"].steps)
    assert steps == list(range(1, len(steps) + 1)), "a point is missing"


def test_stop_saves_what_was_learned(follower: RunFollower, workbench: RunCommand) -> None:
    wait_for(trained(follower, 2))
    command = send_command(follower.run, "save")
    wait_for(lambda: command.id in fresh(follower).state.acknowledged)
    wait_for(lambda: len(fresh(follower).state.checkpoints) == 1)
    assert workbench("stop", "last").returncode == 0
    wait_for(lambda: fresh(follower).ended)
    assert follower.name == "stopped"
    assert (follower.run.model / "adapter_model.safetensors").is_file()
    assert follower.state.checkpoints[-1].step == follower.state.step
    again = workbench("stop", "last")
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, f"{follower.run.id} is stopped already.")
