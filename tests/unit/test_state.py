"""The state of a run as the fold of its events."""

import math
from typing import Any

import pytest

from workbench.engine.runs.state import STALL_SECONDS, RunState, metric_points, with_liveness


def fold(*events: dict[str, Any]) -> RunState:
    state = RunState()
    for number, event in enumerate(events):
        state.apply({"v": 1, "seq": number, "time": 1000.0 + number, "elapsed": float(number), **event})
    return state


def step(number: int, loss: float | str) -> dict[str, Any]:
    return {"type": "step", "step": number, "epoch": number / 10, "total_steps": 10, "metrics": {"train/loss": loss}}


LOADED = {"type": "loaded", "parameters": 100, "trainable_parameters": 7, "total_steps": 10, "device": "cpu"}


def test_a_run_from_queue_to_end() -> None:
    state = fold({"type": "queued"}, {"type": "started"}, LOADED, step(1, 3.0), step(2, 2.0),
                 {"type": "checkpoint", "step": 2, "path": "checkpoints/a", "verified": True, "removed": []},
                 {"type": "ended", "outcome": "finished"})
    assert (state.journal_state, state.step, state.total_steps, state.trainable_parameters) == ("finished", 2, 10, 7)
    assert list(state.metrics["train/loss"].values) == [3.0, 2.0]
    assert state.started == 1000.0
    assert state.checkpoints[0].path == "checkpoints/a"


def test_nan_stays_nan_and_never_becomes_zero() -> None:
    state = fold({"type": "started"}, step(1, "nan"), step(2, "inf"))
    assert math.isnan(state.metrics["train/loss"].values[0])
    assert metric_points(state.metrics["train/loss"]) == [[1, "nan"], [2, "inf"]]


def test_resuming_drops_the_abandoned_branch() -> None:
    state = fold({"type": "started"}, step(1, 3.0), step(2, 2.0), step(3, 1.0), {"type": "resumed", "step": 1},
                 step(2, 2.5))
    assert list(state.metrics["train/loss"].steps) == [1, 2]
    assert list(state.metrics["train/loss"].values) == [3.0, 2.5]
    assert state.resumed_from == 1


def test_a_run_that_goes_on_has_not_ended() -> None:
    failed = {"type": "ended", "outcome": "failed", "cause": "oom", "explanation": "Out of memory.",
              "evidence": ["CUDA out of memory"], "changes": {"training.max_length": 512}}
    state = fold({"type": "started"}, step(1, 3.0), step(2, 2.0), failed)
    assert (state.evidence, state.changes) == (("CUDA out of memory",), {"training.max_length": 512})
    state = fold({"type": "started"}, step(1, 3.0), step(2, 2.0), failed, {"type": "restarted", "step": 1})
    assert (state.journal_state, state.cause, state.evidence, state.restarts) == ("queued", None, (), 1)
    assert list(state.metrics["train/loss"].steps) == [1]


def test_a_pause_lasts_without_a_supervisor() -> None:
    state = fold({"type": "started"}, step(1, 3.0), {"type": "paused", "step": 1})
    assert with_liveness(state.journal_state, supervised=False, heartbeat_age=None) == "paused"


def test_a_worker_without_a_beat_is_stalled() -> None:
    assert with_liveness("running", supervised=True, heartbeat_age=1.0, beat_age=STALL_SECONDS + 1) == "stalled"


def test_deleted_checkpoints_are_forgotten() -> None:
    def saved(number: int, removed: list[str]) -> dict[str, Any]:
        return {"type": "checkpoint", "step": number, "path": f"c{number}", "verified": True, "removed": removed}

    state = fold(saved(1, []), saved(2, []), saved(3, ["c1"]))
    assert [checkpoint.path for checkpoint in state.checkpoints] == ["c2", "c3"]


@pytest.mark.parametrize("event", [
    {"type": "from the future"}, {"type": "step"}, {"type": "step", "step": "x", "metrics": {}}, {"type": None}, {},
    {"type": "ended", "outcome": "exploded"}, {"type": "checkpoint", "step": 1}, {"type": "apply"},
    {"type": "step", "step": 1, "metrics": 3}, {"type": "loaded", "parameters": None},
])
def test_unknown_or_malformed_events_are_counted_not_raised(event: dict[str, Any]) -> None:
    state = fold({"type": "started"}, event, step(1, 1.0))
    assert state.unknown == 1
    assert state.step == 1
    assert state.journal_state == "running"


def test_liveness_turns_silence_into_a_state() -> None:
    assert with_liveness("running", supervised=True, heartbeat_age=1.0) == "running"
    assert with_liveness("running", supervised=True, heartbeat_age=STALL_SECONDS + 1) == "stalled"
    assert with_liveness("running", supervised=False, heartbeat_age=1.0) == "crashed"
    assert with_liveness("finished", supervised=False, heartbeat_age=None) == "finished"
