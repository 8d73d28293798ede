"""Homes in trouble: a disk that fills up under a real run, two who give the same orders, a thousand runs."""

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import RunCommand
from tests.faults.small_disk import small_home
from workbench.engine.runs.control import ControlReader, send_command
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.liveness import lock_holder
from workbench.engine.runs.manifest import verify
from workbench.engine.runs.store import RunFollower, list_runs

pytestmark = pytest.mark.slow

RECIPE = """\
model: tiny-base
dataset: {path: glossary, max_rows: 64}
tuning: full
training: {max_steps: 100000, per_device_train_batch_size: 1, gradient_accumulation_steps: 1, learning_rate: 1e-5,
  max_length: 96, logging_steps: 1, save_steps: null, gradient_checkpointing: false}
"""


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """The home on a file system that holds one checkpoint and not two."""
    with small_home(home, "90m") as small:
        yield small


def test_a_disk_that_fills_up_while_a_checkpoint_is_written(small_disk: Path, workbench: RunCommand,
                                                            tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    result = workbench("train", str(recipe), "--detach", "--json", "--force")
    assert result.returncode == 0, result.stderr
    run = RunDirectory(Path(json.loads(result.stdout)["directory"]))
    follower = RunFollower(run)

    def seen(true: Callable[[], bool]) -> bool:
        follower.refresh()
        assert not follower.ended, (follower.state.explanation, run.log.read_text()[-2000:])
        return true()

    wait_for(lambda: seen(lambda: follower.state.step >= 2))
    send_command(run, "save")
    wait_for(lambda: seen(lambda: len(follower.state.checkpoints) == 1))
    good = run.path / follower.state.checkpoints[0].path
    # Somebody else fills the disk, but for some room that a second checkpoint does not fit into.
    left = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(b"x" * (left - (2 << 20)))
    send_command(run, "save")
    wait_for(lambda: lock_holder(run.lock) is None)
    follower.refresh()
    assert (follower.name, follower.state.cause) == ("failed", "disk"), follower.state.explanation
    assert verify(good) is None
    assert [path.name for path in run.checkpoints.iterdir()] == [good.name], "half a checkpoint was left"
    assert list(follower.state.metrics["train/loss"].steps) == list(range(1, follower.state.step + 1))
    shown = json.loads(workbench("show", run.id, "--json").stdout)
    assert shown["last_good_checkpoint"]["step"] == follower.state.checkpoints[0].step
    assert follower.state.suggestion


ORDERS = """\
import sys
from workbench.engine.runs.control import send_command
from workbench.engine.runs.directory import find_run
run = find_run("last")
for _ in range(200):
    send_command(run, "sample")
"""


def test_two_who_give_the_same_orders_tear_no_line(home: Path) -> None:
    run = RunDirectory(home / "runs" / "20260101-100000-shared-c0de")
    run.path.mkdir(parents=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from workbench.engine.runs.liveness import "
         "acquire_lock; acquire_lock(Path(sys.argv[1])); print(1, flush=True); sys.stdin.read()", str(run.lock)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        both = [subprocess.Popen([sys.executable, "-c", ORDERS]) for _ in range(2)]
        assert [one.wait(60) for one in both] == [0, 0]
    finally:
        holder.kill()
        holder.wait()
    commands = ControlReader(run).read()
    assert len(commands) == 400
    assert len({command.id for command in commands}) == 400


def test_a_thousand_runs_are_listed_in_bounded_memory(home: Path) -> None:
    """Ten thousand: `python tests/bench/bench_journal.py --runs`."""
    from tests.long_journal import write_many_runs

    write_many_runs(home, 1000)
    tracemalloc.start()
    found = list_runs()
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 1000
    assert [run.id for run in found] == sorted((run.id for run in found), reverse=True)
    assert {run.state for run in found} == {"finished"}
    # What is listed, and what is remembered of runs at rest: 45 MB for ten thousand.
    assert kept < 6_000 * 1000
    assert most - kept < 2 << 20
