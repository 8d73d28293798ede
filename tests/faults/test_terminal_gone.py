"""A real run whose screens are killed and hung up, in an environment full of tokens: it trains on, and tells none."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, RunCommand
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.liveness import ProcessIdentity
from workbench.engine.runs.store import RunFollower, read_status

pytestmark = pytest.mark.slow

TOKENS = {"HF_TOKEN": "hf_" + "AbCdEfGh" * 5, "HUGGING_FACE_HUB_TOKEN": "hub-0123456789abcdef",
          "WANDB_API_KEY": "wandbwandbwandb42", "OPENAI_API_KEY": "sk-proj-ThisIsNoKey0123456789"}
RECIPE = """\
model: tiny-base
dataset: {path: glossary, max_rows: 64}
training: {max_steps: 100000, per_device_train_batch_size: 1, gradient_accumulation_steps: 1, learning_rate: 1e-4,
  max_length: 96, logging_steps: 1, save_steps: 20, gradient_checkpointing: false}
samples: {every_steps: 40, prompts: ["What is LoRA?"]}
"""
# Python runs it at its start: a library that tells the tokens in every way there is, and fails with them at the end.
TELLTALE = """\
import sys
if "workbench.worker" in sys.orig_argv:
    import logging, os, threading, time
    tokens = " ".join(os.environ[name] for name in TOKENS)
    def tell():
        while "transformers.trainer" not in sys.modules or "trl" not in sys.modules:
            time.sleep(0.1)
        print("out", tokens)
        print("err", tokens, file=sys.stderr)
        logging.getLogger("library").error("log %s", tokens)
        sys.stderr.write(tokens + chr(10))
        time.sleep(1)
        from workbench.worker import checkpoints
        def refuse(self, *arguments):
            raise RuntimeError("401 Unauthorized for " + tokens)
        checkpoints.CheckpointCallback.save_final = refuse
    threading.Thread(target=tell, daemon=True).start()
""".replace("TOKENS", repr(list(TOKENS)))


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


class Screen:
    """The application in a terminal of its own, whose session and group it leads."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workbench"], stdin=slave, stdout=slave, stderr=slave, cwd=ROOT,
            start_new_session=True, env={**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        os.set_blocking(self.master, False)
        self.output = b""

    def shows(self, word: bytes) -> bool:
        try:
            while piece := os.read(self.master, 1 << 16):
                self.output += piece
        except BlockingIOError:
            pass
        assert self.process.poll() is None, self.output[-2000:]
        return word in self.output

    def hang_up(self) -> None:
        os.close(self.master)


@pytest.fixture
def run(workbench: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    library = tmp_path / "library"
    library.mkdir()
    (library / "sitecustomize.py").write_text(TELLTALE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(library), str(ROOT)]))
    recipe = tmp_path / "long.yaml"
    recipe.write_text(RECIPE)
    before = os.umask(0o022)
    try:
        result = workbench("train", str(recipe), "--detach", "--json")
    finally:
        os.umask(before)
    assert result.returncode == 0, result.stderr
    return RunDirectory(Path(json.loads(result.stdout)["directory"]))


def test_screens_die_and_training_goes_on_and_tells_nothing(run: RunDirectory, workbench: RunCommand) -> None:
    follower = RunFollower(run)

    def trained(steps: int) -> bool:
        follower.refresh()
        assert not follower.ended or not steps, follower.state.explanation
        return follower.state.step >= steps

    wait_for(lambda: trained(3))
    killed, hung_up = Screen(), Screen()
    wait_for(lambda: killed.shows(b"train/loss") and hung_up.shows(b"train/loss"))
    killed.process.send_signal(signal.SIGKILL)
    hung_up.hang_up()
    # Whoever does not notice that its terminal is gone goes round for ever.
    hung_up.process.wait(timeout=30)
    killed.process.wait(timeout=10)
    assert trained(follower.state.step)
    step = follower.state.step
    wait_for(lambda: trained(step + 25))
    again = RunFollower(run)
    again.refresh()
    assert list(again.state.metrics["train/loss"].steps) == list(range(1, again.state.step + 1)), "a row is missing"
    assert again.corrupt == again.state.restarts == 0
    seen = Screen()
    wait_for(lambda: seen.shows(b"train/loss"))
    seen.process.kill()
    seen.process.wait(timeout=10)
    seen.hang_up()
    _assert_nothing_listens_and_no_token_is_an_argument(run)
    assert workbench("stop", run.id).returncode == 0
    wait_for(lambda: trained(0) and follower.ended)
    assert (follower.name, follower.state.cause) == ("failed", "error")
    assert "[HF_TOKEN redacted]" in (follower.state.explanation or "") + run.log.read_text()
    _assert_only_the_owner_reads(run)
    _assert_no_token_is_in(run)


def _assert_nothing_listens_and_no_token_is_an_argument(run: RunDirectory) -> None:
    status = read_status(run)
    for role in ("supervisor", "worker"):
        identity = ProcessIdentity.from_json(status[role])
        assert identity is not None
        process = psutil.Process(identity.pid)
        for one in (process, *process.children(recursive=True)):
            assert [c for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN] == []
            assert not any(token in " ".join(one.cmdline()) for token in TOKENS.values())


def _assert_only_the_owner_reads(run: RunDirectory) -> None:
    paths = [run.path, *run.path.rglob("*")]
    assert len(paths) > 20
    open_to_others = [str(path) for path in paths if not path.is_symlink() and path.stat().st_mode & 0o077]
    assert open_to_others == []


def _assert_no_token_is_in(run: RunDirectory) -> None:
    told = run.log.read_text()
    assert "out [" in told, "the library was not heard"
    assert "log [" in told
    assert "401 Unauthorized for [" in told
    for path in run.path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert [name for name, value in TOKENS.items() if value.encode() in data] == [], path
