"""What a home of past runs says of the next: the band of its estimate, and its pace."""

import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tui.synthetic import H200, HOST
from workbench.engine.atomic import write_json
from workbench.engine.data.facts import dataset_facts
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.memory.calibration import PRIOR_RUNS, Band, band, calibrated, throughput, training_seconds
from workbench.engine.memory.comparison import compare_tunings
from workbench.engine.planning import Plan, make_plan, memory_case
from workbench.engine.recipe import Recipe
from workbench.engine.runs import history as history_module
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.history import NEWEST, PastRun, past_run, read_history
from workbench.engine.runs.journal import Journal, read_ends, read_tail
from workbench.engine.runs.state import RunState

GIB = 1024**3
DEFAULT: Band = (0.93, 1.08)
RECIPE = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", "training": {"max_steps": 100}})


def past(error: float | None, device: str = "H200", **more: Any) -> PastRun:
    return PastRun("r", device, more.get("likeness"), error, more.get("rate"), more.get("row"))


def plan_of(recipe: Recipe, gpus: list[Gpu]) -> Plan:
    return make_plan(recipe, None, gpus, HOST)


def write_run(home: Path, number: int, recipe: Recipe = RECIPE, *, device: str = H200.name, probed: float = 1.05,
              trained: float = 1.0, rate: float = 5000.0, ended: bool = True, padding: int = 0) -> RunDirectory:
    """A run as launcher, supervisor and worker leave it; peaks as multiples of an estimate of 10 GiB."""
    path = home / "runs" / f"20260101-{number // 3600:02}{number // 60 % 60:02}{number % 60:02}-past-{number:04x}"
    path.mkdir(parents=True)
    run = RunDirectory(path)
    write_json(run.plan, {"plan": {}, "recipe": recipe.model_dump(mode="json"),
                          "dataset_fingerprint": FINGERPRINT}, durable=False)
    write_json(run.status, {"phase": "ended"}, durable=False)
    allocated = None if device == "cpu" else round(probed * 10 * GIB)
    with Journal(run.events) as journal:
        journal.append("started")
        journal.append("loaded", parameters=3_737_856, trainable_parameters=1, total_steps=100, device="cuda:0",
                       device_name=device)
        journal.append("probed", peak_allocated=allocated, peak_reserved=allocated, peak_resident=None, rows=4,
                       tokens=90, estimated=None if device == "cpu" else 10 * GIB, seconds=1.0)
        for _ in range(padding):
            journal.append("alert", level="info", message="x" * 200)
        for step, speed in ((10, rate / 10), (20, rate), (30, rate * 1.02), (40, rate * 0.98)):
            journal.append("step", step=step, metrics={
                "perf/tokens_per_second": speed, "train/num_tokens": step * 16 * 40.0,
                "memory/peak_allocated": trained * 10 * GIB})
        if ended:
            journal.append("ended", outcome="finished")
    return run


FINGERPRINT = dataset_facts(RECIPE, None).fingerprint


def test_without_history_the_band_is_the_default() -> None:
    assert band([], "H200", DEFAULT) == DEFAULT
    assert band([past(None), past(1.3, "A100")], "H200", DEFAULT) == DEFAULT


def test_few_runs_move_the_band_a_little_and_many_make_it() -> None:
    one = band([past(1.02)], "H200", DEFAULT)
    assert DEFAULT[0] < one[0] < 1
    assert 1.02 < one[1] < DEFAULT[1]
    many = band([past(1 + 0.01 * math.sin(i)) for i in range(400)], "H200", DEFAULT)
    assert many == pytest.approx((0.99, 1.01), abs=0.003)
    half = band([past(1.0)] * PRIOR_RUNS, "H200", DEFAULT)
    assert half == pytest.approx(((DEFAULT[0] + 1) / 2, (DEFAULT[1] + 1) / 2))


def test_one_odd_run_among_many_hardly_moves_it_and_the_estimate_stays_inside() -> None:
    usual = [past(1.01)] * 60
    assert band([*usual, past(3.0)], "H200", DEFAULT)[1] < 1.05
    low, high = band([past(1.06)] * 200, "H200", DEFAULT)
    assert (low, high) == (1.0, pytest.approx(1.06, abs=0.002))


def test_a_run_says_by_how_much_its_own_batch_was_missed(home: Path) -> None:
    found, ended = past_run(write_run(home, 1, probed=1.05, trained=1.07))
    assert ended
    assert found is not None
    assert found.error == pytest.approx(1.07)
    assert found.tokens_per_second == pytest.approx(5000)
    assert found.tokens_per_row == 40
    assert found.device == H200.name


def test_on_a_cpu_a_run_teaches_its_pace_and_no_error(home: Path) -> None:
    found, _ = past_run(write_run(home, 1, device="cpu"))
    assert found is not None
    assert found.error is None
    assert found.tokens_per_second == pytest.approx(5000)


def test_a_long_journal_is_read_at_both_ends(home: Path) -> None:
    run = write_run(home, 1, padding=2000)
    assert run.events.stat().st_size > 400_000
    assert len(read_ends(run.events)) < 800
    found, ended = past_run(run)
    assert ended
    assert found is not None
    assert found.error == pytest.approx(1.05)
    short = write_run(home, 2)
    assert read_ends(short.events) == read_tail(short.events)


def test_damaged_and_foreign_runs_teach_nothing_and_break_nothing(home: Path) -> None:
    for number, (name, content) in enumerate((("plan.json", "{"), ("plan.json", '{"recipe": {"tuning": 3}}'),
                                              ("events.jsonl", "{broken\n"), ("events.jsonl", ""))):
        (write_run(home, number).path / name).write_text(content)
    history = read_history()
    assert all(run.likeness is None for run in history)
    assert throughput(history, RECIPE, 3_737_856, FINGERPRINT, H200.name) is None


@pytest.mark.parametrize("change", [{"tuning": "full"}, {"training": {"max_length": 64}}, {"objective": "sft",
                         "lora": {"lora_r": 4}}, {"training": {"per_device_train_batch_size": 8}}])
def test_only_a_like_run_gives_a_pace(home: Path, change: dict[str, Any]) -> None:
    write_run(home, 1)
    history = read_history()
    like = throughput(history, RECIPE, 3_737_856, FINGERPRINT, H200.name)
    assert like is not None
    assert training_seconds(like, RECIPE, 100, None) == pytest.approx(100 * 16 * 40 / 5000)
    assert training_seconds(like, RECIPE, None, 10**6) is None
    other = RECIPE.model_copy(update={"training": RECIPE.training.model_copy(update={"num_train_epochs": 9.0,
                                                                                     "learning_rate": 1e-3})})
    assert throughput(history, other, 3_737_856, FINGERPRINT, H200.name) == like
    unlike = Recipe.model_validate({**RECIPE.model_dump(mode="json"), **{
        name: {**RECIPE.model_dump(mode="json")[name], **value} if isinstance(value, dict) else value
        for name, value in change.items()}})
    assert throughput(history, unlike, 3_737_856, FINGERPRINT, H200.name) is None
    assert throughput(history, RECIPE, 3_737_856, "other rows", H200.name) is None
    assert throughput(history, RECIPE, 1, FINGERPRINT, H200.name) is None
    assert throughput(history, RECIPE, 3_737_856, FINGERPRINT, "NVIDIA A100") is None


def test_the_plan_says_the_hours_and_narrows_its_band(home: Path) -> None:
    before = plan_of(RECIPE, [H200])
    assert (before.throughput, before.seconds) == (None, None)
    assert before.to_json()["tokens_per_second"] is None
    for number in range(30):
        write_run(home, number, probed=1.0 + number / 3000, trained=0.9)
    after = plan_of(RECIPE, [H200])
    assert after.seconds == pytest.approx(100 * 16 * 40 / 5000)
    assert after.to_json()["measured_in"] == "20260101-000029-past-001d"
    assert before.comparison is not None
    assert after.comparison is not None
    first, second = before.comparison["lora"].estimate, after.comparison["lora"].estimate
    assert first is not None
    assert second is not None
    assert first.peak_bytes == second.peak_bytes
    assert first.low_bytes < second.low_bytes <= second.peak_bytes <= second.high_bytes < first.high_bytes
    elsewhere = plan_of(RECIPE, [replace(H200, name="NVIDIA A100")])
    assert elsewhere.comparison is not None
    assert elsewhere.comparison["lora"].estimate == first
    assert elsewhere.seconds is None


def test_each_gpu_is_judged_by_its_own_history() -> None:
    plan = plan_of(RECIPE, [H200])
    assert plan.architecture is not None
    case = memory_case(RECIPE)
    plain = compare_tunings(plan.architecture, case, [H200])["lora"]
    assert plain.estimate is not None
    just = plain.estimate.high_bytes + GIB // 2
    gpus = [replace(H200, free_bytes=just), replace(H200, index=1, name="other", free_bytes=just)]
    compared = compare_tunings(plan.architecture, case, gpus)
    assert [fit.fit for fit in compared["lora"].devices] == ["fits", "fits"]
    wide = calibrated(compared, tuple(past(1.6, H200.name) for _ in range(50)), gpus)["lora"]
    assert [fit.fit for fit in wide.devices] == ["tight", "fits"]
    assert wide.fit == "fits"
    assert wide.estimate is not None
    assert wide.estimate.high_bytes > plain.estimate.high_bytes
    assert calibrated(compared, (), gpus) is compared


def test_the_history_is_read_again_only_where_runs_changed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counting(run: RunDirectory) -> Any:
        read.append(run.id)
        return past_run(run)

    monkeypatch.setattr(history_module, "past_run", counting)
    assert read_history() == ()
    for number in range(5):
        write_run(home, number)
    assert len(read_history()) == 5
    assert len(read_history()) == 5
    assert len(read) == 5
    fresh = write_run(home, 6)
    assert read_history()[0].id == fresh.id
    assert read[5:] == [fresh.id]
    shutil.rmtree(fresh.path)
    assert len(read_history()) == 5
    assert len(read) == 6


def test_a_run_that_trains_is_looked_at_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(home, 1, ended=False)
    monkeypatch.setattr(history_module, "is_supervised", lambda _: True)
    assert len(read_history()) == 1
    with Journal(run.events) as journal:
        journal.append("step", step=50, metrics={"memory/peak_allocated": 20.0 * GIB})
    assert read_history()[0].error == pytest.approx(1.05)
    monkeypatch.setattr(history_module, "_LOOK_AGAIN_SECONDS", -1.0)
    assert read_history()[0].error == pytest.approx(2.0)


def test_only_the_newest_runs_count(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "NEWEST", 3)
    for number in range(6):
        write_run(home, number)
    os.utime(home / "runs")
    assert [run.id[9:15] for run in read_history()] == ["000005", "000004", "000003"]
    assert NEWEST >= 100


def test_a_nan_peak_is_no_peak() -> None:
    state = RunState()
    for event in ({"type": "probed", "peak_allocated": 10, "rows": 1, "tokens": 1, "estimated": 10, "seconds": 1},
                  {"type": "step", "step": 1, "metrics": {"memory/peak_allocated": "nan"}}):
        state.apply(event)
    assert history_module._error(state) == 1.0
