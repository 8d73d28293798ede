"""Estimate, rehearsal, probe and training side by side: from the events to the JSON document and the plain line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tui.synthetic import HOST, SyntheticRun
from tests.unit.test_state import LOADED, fold
from workbench.engine.atomic import write_json
from workbench.engine.planning import make_plan
from workbench.engine.recipe import Recipe
from workbench.engine.runs import launcher
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.document import run_document
from workbench.engine.runs.follow import follow_lines
from workbench.engine.runs.peaks import columns, estimated_peak, memory_peaks, peaks_line
from workbench.engine.runs.state import RunState
from workbench.engine.runs.store import RunFollower

GIB = 1024**3
PROBED = {"type": "probed", "device": "cuda", "peak_allocated": 12 * GIB, "peak_reserved": 13 * GIB,
          "peak_resident": None, "by_phase": {}, "rows": 8, "tokens": 312, "rows_looked_at": None,
          "estimated": 11 * GIB, "seconds": 2.5}


def measured(**metrics: float) -> dict[str, Any]:
    return {"type": "step", "step": 1, "metrics": {f"memory/{name}": value for name, value in metrics.items()}}


def cuda_run() -> RunState:
    return fold({"type": "rehearsed", "peak_bytes": 12 * GIB + 1}, {"type": "started"}, LOADED, PROBED,
                measured(peak_allocated=11.5 * GIB, peak_reserved=12.5 * GIB))


def test_the_events_give_the_four_figures() -> None:
    peaks = memory_peaks(cuda_run(), 14 * GIB)
    assert [value for _, value in columns(peaks)] == [14 * GIB, 12 * GIB + 1, 12 * GIB, int(11.5 * GIB)]
    assert [label for label, _ in columns(peaks)] == ["estimate", "rehearsal", "probe", "training"]
    assert (peaks.probed_reserved, peaks.measured_reserved, peaks.estimated_probe) == (13 * GIB, int(12.5 * GIB),
                                                                                     11 * GIB)
    assert not peaks.on_cpu
    assert cuda_run().unknown == 0


def test_on_a_cpu_the_figures_are_labelled_as_resident_memory() -> None:
    state = fold({"type": "started"}, LOADED, {**PROBED, "device": "cpu", "peak_allocated": None, "peak_reserved": None,
                                               "estimated": None, "peak_resident": GIB}, measured(resident=2 * GIB))
    peaks = memory_peaks(state, 3 * GIB)
    assert peaks.on_cpu
    assert columns(peaks) == (("GPU est.", 3 * GIB), ("rehearsal", None), ("probe RAM", GIB), ("train RAM", 2 * GIB))
    assert peaks_line(peaks, state) == ("peak memory: GPU est. 3.00 GiB · probe RAM 1.00 GiB · train RAM 2.00 GiB")


def test_the_plain_line_says_why_short_rows_need_less() -> None:
    state = cuda_run()
    assert peaks_line(memory_peaks(state, 14 * GIB), state) == (
        "peak memory: estimate 14.00 GiB · rehearsal 12.00 GiB · probe 12.00 GiB · training 11.50 GiB "
        "(12.5 GiB reserved; longest rows 312 tokens: est. 11.0 GiB)")
    assert peaks_line(memory_peaks(state, 11 * GIB), state).endswith("11.50 GiB (12.5 GiB reserved)")
    assert peaks_line(memory_peaks(RunState(), None), RunState()) == ""
    assert peaks_line(memory_peaks(RunState(), GIB), RunState()) == "peak memory: estimate 1.00 GiB"


def test_who_follows_in_plain_lines_is_told_once(home: Path) -> None:
    run = SyntheticRun(home, "lines").start().predict(12 * GIB, 12 * GIB, 4.4 * GIB, 4.3 * GIB).steps(1, 3).finish()
    lines = [line for line in follow_lines(RunFollower(run.run)) if line.startswith("peak memory")]
    assert lines == ["peak memory: estimate 12.00 GiB · rehearsal 12.00 GiB · probe 4.40 GiB "
                     "(4.8 GiB reserved; longest rows 312 tokens: est. 4.3 GiB)"]


def test_a_malformed_probe_is_counted_not_raised() -> None:
    for damage in ({"rows": None}, {"seconds": "fast"}, {"tokens": []}):
        state = fold({"type": "started"}, {**PROBED, **damage})
        assert (state.unknown, state.probed) == (1, None)


def test_a_rehearsal_before_the_launch_stands_beside_the_estimate(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "start_supervisor", lambda run: None)
    recipe = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary"})
    plan = make_plan(recipe, None, [], HOST)
    run = launcher.launch(recipe, plan, None, {"peak_bytes": 12 * GIB, "peak_moment": "the loss", "seconds": 4.0})
    # The real supervisor, with a worker that says nothing.
    code = ("from workbench.engine.runs.directory import find_run; "
            "from workbench.engine.runs.supervisor import Supervisor; Supervisor(find_run('last'), ['true']).main()")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    follower = RunFollower(run)
    follower.refresh()
    assert follower.state.rehearsed_peak == 12 * GIB
    assert follower.state.unknown == 0
    memory = run_document(follower)["memory"]
    assert memory["rehearsed_peak"] == 12 * GIB
    assert memory["estimated_peak"] == plan.to_json()["tunings"]["lora"]["peak_bytes"]
    assert (memory["probed_allocated"], memory["measured_allocated"], memory["resident"]) == (None, None, None)


def test_the_estimate_of_the_launch(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert estimated_peak(run) is None
    write_json(run.plan, {"plan": {"tuning": "lora", "tunings": {"lora": {"peak_bytes": 5}, "full": {"error": "x"}}}})
    assert estimated_peak(run) == 5
    write_json(run.plan, {"plan": {"tuning": "full", "tunings": {"full": {"error": "x"}}}})
    assert estimated_peak(run) is None
