"""The real binary in a real terminal: launched, killed with -9, opened again."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.liveness import ProcessIdentity
from workbench.engine.runs.store import RunFollower, list_runs, read_status

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")]


class Terminal:
    """One tmux session of its own server."""

    def __init__(self, socket: Path, size: tuple[int, int]) -> None:
        self._tmux = ["tmux", "-S", str(socket)]
        environment = {**os.environ, "LANG": "C.UTF-8", "TERM": "xterm-256color"}
        subprocess.run([*self._tmux, "-f", "/dev/null", "new-session", "-d", "-s", "w", "-x", str(size[0]), "-y",
                        str(size[1]), "sh"], check=True, cwd=ROOT, env=environment)

    def type(self, *keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", "-t", "w", *keys], check=True)

    def screen(self) -> str:
        return subprocess.run([*self._tmux, "capture-pane", "-p", "-t", "w"], capture_output=True, text=True).stdout

    def wait_for(self, seen: Callable[[str], bool] | str, seconds: float = 60) -> str:
        deadline = time.monotonic() + seconds
        while True:
            text = self.screen()
            if seen in text if isinstance(seen, str) else seen(text):
                return text
            assert time.monotonic() < deadline, f"never seen: {seen}\n{text}"
            time.sleep(0.1)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux", (80, 24))
    yield terminal
    terminal.close()


def launch(terminal: Terminal) -> None:
    """From Plan; what this machine happens to be short of does not matter here."""
    terminal.type("C-l")
    text = terminal.wait_for(lambda text: "Launch anyway" in text or "tokens/s" in text, 180)
    if "Launch anyway" in text:
        terminal.type("y")


def test_training_does_not_notice_that_the_screen_was_killed(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type(f"{sys.executable} -m workbench", "Enter")
    terminal.wait_for("Predicted GPU memory")
    launch(terminal)
    terminal.wait_for(lambda text: "train/loss" in text and "tokens/s" in text, 180)
    pid = subprocess.run(["pgrep", "-f", f"{sys.executable} -m workbench$"], capture_output=True, text=True).stdout
    for number in pid.split():
        os.kill(int(number), 9)
    terminal.wait_for("Killed")
    terminal.close()

    (run,) = list_runs()
    follower = RunFollower(run.run)
    follower.refresh()
    step = follower.state.step
    terminal = Terminal(tmp_path / "again", (80, 24))
    terminal.type(f"{sys.executable} -m workbench", "Enter")
    terminal.wait_for("train/loss")
    deadline = time.monotonic() + 180
    while follower.state.step < step + 6:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        follower.refresh()
    steps = list(follower.state.metrics["train/loss"].steps)
    every = load_recipe(run.run.recipe).training.logging_steps
    assert steps == [1, *range(every, steps[-1] + 1, every)], "a point is missing"
    terminal.type("s")
    terminal.wait_for("Let it run")
    terminal.type("y")
    terminal.wait_for("stopped", 180)
    terminal.close()


def recipe(folder: Path) -> Path:
    """A minute of training, with a checkpoint every few steps."""
    path = folder / "short.yaml"
    path.write_text("model: tiny-base\ndataset: glossary\n"
                    "training: {max_steps: 45, logging_steps: 1, save_steps: 15}\nsamples: {every_steps: null}\n")
    return path


def step_of(text: str) -> int:
    """The step that the header of Watch shows."""
    found = re.search(r"step +(\d+)/45", text)
    return int(found.group(1)) if found else -1


def test_paused_resumed_killed_and_resumed_from_the_keyboard(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type(f"{sys.executable} -m workbench {recipe(tmp_path)}", "Enter")
    terminal.wait_for("Predicted GPU memory")
    launch(terminal)
    terminal.wait_for(lambda text: step_of(text) >= 5, 180)
    terminal.type("p")
    text = terminal.wait_for("● paused", 60)
    assert "Press r to go on" in text
    (run,) = list_runs()
    assert run.state == "paused"
    paused_at = step_of(text)

    # At once, while the worker may still be leaving.
    terminal.type("r")
    terminal.wait_for(lambda text: step_of(text) >= max(paused_at + 5, 20), 180)
    worker = ProcessIdentity.from_json(read_status(run.run)["worker"])
    assert worker is not None
    os.kill(worker.pid, 9)
    text = terminal.wait_for("Why it failed: killed", 60)
    assert "SIGKILL" in text
    assert "Checkpoint  step" in text
    assert f"resumed at step {paused_at}" in text
    terminal.type("r")
    terminal.wait_for("● finished", 240)
    terminal.close()

    follower = RunFollower(run.run)
    follower.refresh()
    assert list(follower.state.metrics["train/loss"].steps) == list(range(1, 46)), "a point is missing or there twice"
    assert [attempt.cause for attempt in follower.state.attempts] == [None, None]
