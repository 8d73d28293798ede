"""Clocks that are set and machines that are booted again, by injected values: durations, identities, states."""

import os
import time
from pathlib import Path

import pytest

from workbench.engine.runs import journal as journal_module
from workbench.engine.runs import liveness, store
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.follow import ending_lines, step_line
from workbench.engine.runs.journal import Journal, JournalReader
from workbench.engine.runs.liveness import ProcessIdentity
from workbench.engine.runs.state import with_liveness
from workbench.engine.runs.store import RunFollower, beat_age, heartbeat_age, is_supervised, summarise


class Clocks:
    """The wall's and the machine's own."""

    wall, monotonic_ = 1_700_000_000.0, 5000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.monotonic_

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic_ += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(journal_module, "time", clocks)
    return clocks


def step(journal: Journal, number: int) -> None:
    journal.append("step", step=number, epoch=None, total_steps=100, metrics={"train/loss": 1.0})


def test_a_clock_that_is_set_changes_no_duration(home: Path, clocks: Clocks) -> None:
    run = create_run_directory("clock")
    with Journal(run.events) as journal:
        journal.append("started")
        for number in range(1, 4):
            clocks.pass_(10)
            step(journal, number)
            clocks.wall -= 3600
        journal.append("ended", outcome="stopped")
    follower = RunFollower(run)
    follower.refresh()
    assert next(ending_lines(follower)) == "stopped at step 3 after 30s"
    assert follower.elapsed == 30
    elapsed = [event["elapsed"] for event in JournalReader(run.events).read()]
    assert elapsed == sorted(elapsed) == [0, 10, 20, 30, 30]


def test_after_a_reboot_the_time_goes_on_where_it_was(home: Path, clocks: Clocks) -> None:
    run = create_run_directory("boot")
    with Journal(run.events) as journal:
        journal.append("started")
        clocks.pass_(1000)
        step(journal, 1)
    clocks.wall, clocks.monotonic_ = clocks.wall + 86_400, 7.0  # a day later, seven seconds after the boot
    with Journal(run.events) as journal:
        journal.append("resumed", step=1, checkpoint="checkpoints/step-00000001", changes={}, attempt=1)
        for number in range(2, 5):
            clocks.pass_(500 if number == 2 else 20)  # it loads, then it trains
            step(journal, number)
    follower = RunFollower(run)
    follower.refresh()
    follower.state.total_steps = 100
    assert follower.state.elapsed == 1540
    losses = follower.state.metrics["train/loss"]
    assert list(losses.elapsed) == [1000, 1500, 1520, 1540]
    follower.name = "running"
    assert 1540 <= follower.elapsed < 1600, "the seconds since its last word count, by a clock that nobody sets"
    assert "eta 32m00s" in step_line(follower, 3), "96 steps at the pace since it went on, loading left out"
    assert "eta" not in step_line(follower, 1)


def test_a_process_from_before_the_boot_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ProcessIdentity.of(os.getpid())
    assert own is not None
    assert own.is_alive()
    monkeypatch.setattr(liveness, "boot_id", lambda: "the next boot")
    assert not own.is_alive()
    assert not own.is_suspended()
    assert own.signal(0) is False
    assert ProcessIdentity(own.pid, own.start_time + 1, "the next boot").signal(0) is False


def test_signs_of_life_from_before_the_boot_are_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run_directory("beat")
    run.beat.write_text(f"{time.monotonic() + 5000:.3f}\n")
    assert beat_age(run) is None
    run.status.write_text('{"heartbeat_monotonic": %f}' % (time.monotonic() + 5000))
    assert heartbeat_age(run) == 0
    assert with_liveness("running", False, heartbeat_age(run), beat_age(run)) == "crashed"


@pytest.mark.parametrize("shift", [-3600, 3600])
def test_a_run_that_never_started_is_not_queued_for_an_hour(home: Path, shift: float) -> None:
    run = create_run_directory("late")
    assert is_supervised(run), "its supervisor is about to take the lock"
    then = time.time() + shift
    os.utime(run.path, (then, then))
    assert not is_supervised(run)
    assert summarise(run).state == "crashed"


def test_a_failed_run_whose_supervisor_is_there_may_go_on() -> None:
    assert with_liveness("failed", True, 0.5) == "running"
    assert with_liveness("failed", True, 60) == "failed"
    assert with_liveness("failed", True, None) == "failed"
    assert with_liveness("failed", False, 0.5) == "failed"
    assert with_liveness("stopped", True, 0.5) == "stopped"


def write_long(run: RunDirectory, steps: int, *then: dict[str, object]) -> None:
    """A run that was resumed at step 500 after 1,000, and went on to `steps`."""
    with Journal(run.events) as journal:
        journal.append("started")
        journal.append("loaded", parameters=1, trainable_parameters=1, total_steps=9000, device="cpu")
        for number in range(1, 1001):
            journal.append("step", step=number, epoch=0.5, total_steps=9000, metrics={"train/loss": 9.0})
        journal.append("ended", outcome="failed", cause="killed")
        journal.append("resumed", step=500, checkpoint="checkpoints/step-00000500", changes={}, attempt=1)
        journal.append("started")
        for number in range(501, steps + 1):
            journal.append("step", step=number, epoch=0.5, total_steps=9000, metrics={"train/loss": 1.0})
        for event in then:
            journal.append(str(event["type"]), **{key: value for key, value in event.items() if key != "type"})


@pytest.mark.parametrize(("then", "state"), [
    ((), "running"), (({"type": "paused", "step": 3000, "checkpoint": None},), "paused"),
    (({"type": "ended", "outcome": "finished"},), "finished"),
    (({"type": "ended", "outcome": "failed"}, {"type": "restarted", "step": 2900}), "queued")])
def test_a_run_resumed_long_ago_is_told_by_the_end_of_its_journal(
        home: Path, monkeypatch: pytest.MonkeyPatch, then: tuple[dict[str, object], ...], state: str) -> None:
    run = create_run_directory("long")
    write_long(run, 3000, *then)
    assert run.events.stat().st_size > 5 * (1 << 16)
    monkeypatch.setattr(store, "lock_holder", lambda lock: 1)
    found = summarise(run)
    assert (found.state, found.total_steps, found.last_loss) == (state, 9000, 1.0)
    assert found.step == (2900 if state == "queued" else 3000)
    follower = RunFollower(run)
    follower.refresh()
    assert (follower.name, follower.state.step) == (found.state, found.step)
    assert set(follower.state.metrics["train/loss"].values[500:]) == {1.0}


def test_a_branch_given_up_is_in_no_summary(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run_directory("branch")
    write_long(run, 503)
    monkeypatch.setattr(store, "lock_holder", lambda lock: 1)
    found = summarise(run)
    assert (found.state, found.step, found.last_loss, found.total_steps) == ("running", 503, 1.0, 9000)
    assert set(found.recent_losses) == {1.0}
