"""A journal of a day: damaged, cut, twice resumed. `tests/bench/bench_journal.py` does it at full size."""

import tracemalloc
from pathlib import Path

import pytest

from tests.long_journal import assert_folded, write_long_journal
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.store import RunFollower, summarise

pytestmark = pytest.mark.slow

STEPS = 100_000


def test_a_long_journal_folds_to_the_right_state_in_bounded_memory(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "20260101-100000-long-c0de")
    run.path.mkdir()
    run.status.write_text("{}")
    written = write_long_journal(run.events, STEPS)
    follower = RunFollower(run)
    tracemalloc.start()
    follower.refresh()
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert_folded(follower, written, STEPS)
    # Five values, a step and a time: 56 bytes a step, with the arrays' own room to grow; and a few MiB to read in.
    assert kept < 64 * STEPS
    assert most - kept < 8 << 20
    tail = summarise(run)
    assert (tail.step, tail.total_steps, tail.last_loss) == (STEPS, STEPS, follower.state.last("train/loss"))
    # Nobody holds its lock, and neither `started` nor `resumed` is near its end.
    assert tail.state == "crashed"
