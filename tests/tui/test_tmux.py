"""The real binary in a real terminal: launched, killed with -9, opened again."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.store import RunFollower, list_runs

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


def test_training_does_not_notice_that_the_screen_was_killed(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type(f"{sys.executable} -m workbench", "Enter")
    terminal.wait_for("Predicted GPU memory")
    terminal.type("C-l")
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
