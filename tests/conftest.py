"""Fixtures for all tests: a home of its own for each, and the command line as a subprocess."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workbench.engine.runs.liveness import ProcessIdentity
from workbench.engine.runs.store import read_json

# As in the worker: OpenMP threads that spin while they wait take the cores from everything else.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

ROOT = Path(__file__).resolve().parent.parent

RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh WORKBENCH_HOME; nothing of the developer's own runs or model cache is seen.

    Runs outlive what started them, also a test that failed: whatever still trains in it is ended afterwards.
    """
    path = tmp_path / "home"
    monkeypatch.setenv("WORKBENCH_HOME", str(path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield path
    for status in path.glob("runs/*/status.json"):
        for role in ("supervisor", "worker"):
            identity = ProcessIdentity.from_json(read_json(status).get(role))
            if identity is not None:
                identity.signal(signal.SIGKILL)


@pytest.fixture
def workbench(home: Path, tmp_path: Path) -> RunCommand:
    """Run `workbench …` as a user would, without a terminal; `home` is the test's own."""

    def run(*arguments: str, timeout: float = 240, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "workbench", *arguments], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=timeout, cwd=cwd or ROOT, env=dict(os.environ))

    return run
