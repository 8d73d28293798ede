"""Watch: what is on screen of a run that runs, ends, fails, dies or is deleted."""

import shutil
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import orjson
import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from tests.tui.synthetic import GIB, SyntheticRun, append_damage, one_gpu, supervised
from tests.tui.test_runs_screen import SIZES, until
from workbench.engine.errors import RunError
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.series import Metrics
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.widgets.gauges import Gauges
from workbench.tui.widgets.line_chart import LineChart
from workbench.tui.widgets.log_pane import LogPane
from workbench.tui.widgets.metric_panel import MetricPanel, metric_groups
from workbench.tui.widgets.peak_memory import PeakMemory
from workbench.tui.widgets.postmortem import PostMortemPane
from workbench.tui.widgets.run_header import Figure, Notice, RunHeader, fitting, seconds_per_step
from workbench.tui.widgets.samples_pane import SamplesPane


@asynccontextmanager
async def watching(run: RunDirectory | None = None, size: tuple[int, int] = (120, 40),
                   shown: bool = True) -> AsyncIterator[tuple[WorkbenchApp, Pilot[None]]]:
    app = WorkbenchApp(start="watch", run=run, hardware=one_gpu)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.host is not None)
        if shown:
            await until(pilot, lambda: not app.screen.has_class("-empty"))
            await pilot.pause(0.1)
        yield app, pilot


def header(app: WorkbenchApp) -> list[str]:
    return str(app.watch_screen.query_one(RunHeader).render()).split("\n")


def notice(app: WorkbenchApp) -> str:
    return str(app.watch_screen.query_one(Notice).render())


def postmortem(app: WorkbenchApp) -> str:
    """The post-mortem as it is on screen; empty while it is hidden."""
    shown = app.watch_screen.query_one(PostMortemPane)
    return str(shown.query_one(Static).render()) if shown.region.area else ""


def pane(app: WorkbenchApp, kind: type[SamplesPane] | type[LogPane]) -> str:
    return str(app.watch_screen.query_one(kind).query_one(Static).render())


def values(app: WorkbenchApp) -> dict[str, str]:
    """The header's figures by their labels, read from the columns they stand in."""
    _, labels, figures = header(app)
    found, start = {}, 0
    for part in labels.split("  "):
        if part.strip():
            end = labels.index(part.strip(), start) + len(part.strip())
            found[part.strip()] = figures[start:end].strip()
            start = end
    return found


@pytest.mark.parametrize("size", SIZES)
async def test_it_stands_at_every_size(home: Path, size: tuple[int, int]) -> None:
    async with watching(size=size, shown=False) as (app, _):
        assert "Press 1" in str(app.screen.query_one("#empty", Static).render())
    live = SyntheticRun(home, "live").start().sample(0).steps(1, 120)
    with supervised(live.run):
        async with watching(live.run, size) as (app, pilot):
            await pilot.press("tab", "tab", "tab", "m", "l", "x", "left_square_bracket", "s", "n")
            await pilot.pause(0.1)
            assert len(header(app)) == 3


async def test_a_live_run_shows_its_figures_and_follows_what_is_appended(home: Path) -> None:
    live = SyntheticRun(home, "live").start().sample(0).steps(1, 120)
    live.reporter.alert("The gradient norm is 12 times its median.", "warning", 120)
    append_damage(live.run)
    with supervised(live.run):
        async with watching(live.run) as (app, pilot):
            assert header(app)[0].startswith("live  ● running  step 120/300")
            assert header(app)[0].endswith("40%")
            shown = values(app)
            assert shown["epoch"] == "1.20"
            assert shown["RAM"] == "922 MiB"
            assert shown["learning rate"] == "1.2e-04"
            assert shown["tokens/s"].startswith("4.")
            assert "12 times" in notice(app)
            assert "1 damaged line skipped" in notice(app)
            assert "\\x1b[31mred" in pane(app, LogPane)
            assert "10%|#" in pane(app, LogPane)
            assert " 0%|" not in pane(app, LogPane)
            assert "train/loss" in app.screen.query_one(LineChart).text
            live.log("a new line")
            live.reporter.step(121, 1.21, 300, {"train/loss": float("nan")})
            await until(pilot, lambda: "step 121/300" in header(app)[0], seconds=1)
            assert values(app)["loss"] == "NaN"
            await until(pilot, lambda: "a new line" in pane(app, LogPane), seconds=1)


def test_the_pace_gives_the_remaining_time() -> None:
    metrics = Metrics()
    for step, elapsed in ((10, 400.0), (20, 5.0), (30, 25.0), (40, 45.0)):
        metrics.add(step, {"train/loss": 1.0}, elapsed)
    assert seconds_per_step(metrics["train/loss"]) == 2.0
    metrics.drop_after(20)
    assert seconds_per_step(metrics["train/loss"]) is None


def test_where_room_is_short_the_least_figures_go_first() -> None:
    wanted = [Figure("a", "1", 4, 2), Figure("b", "2", 4, 0), Figure("c", "3", 4, 1)]
    assert [figure.label for figure in fitting(wanted, 16)] == ["a", "b", "c"]
    assert [figure.label for figure in fitting(wanted, 15)] == ["b", "c"]
    assert fitting(wanted, 3) == []


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_predicted_and_measured_memory_stand_side_by_side(home: Path, size: tuple[int, int]) -> None:
    live = SyntheticRun(home, "live").start().predict(12.3 * GIB, 12.1 * GIB, 4.4 * GIB, 4.3 * GIB)
    live.steps(1, 60, **{"memory/peak_allocated": 4.2 * GIB, "memory/peak_reserved": 5.5 * GIB})
    with supervised(live.run):
        async with watching(live.run, size) as (app, pilot):
            if size == (80, 24):
                await pilot.press("tab", "tab")
            shown = app.screen.query_one(PeakMemory)
            await until(pilot, lambda: shown.region.height == 3)
            labels, figures, remark = str(shown.render()).split("\n")
            assert labels.split() == ["estimate", "rehearsal", "probe", "training"]
            assert figures.replace("GiB reserved", "").split()[::2] == [
                "12.3", "12.1", "4.4", "4.2", *(["5.5"] if size == (80, 24) else [])]
            assert remark == "longest rows 312 tokens: est. 4.3 GiB"


async def test_a_run_of_which_nothing_is_known_shows_no_empty_figures(home: Path) -> None:
    run = SyntheticRun(home, "starting")
    run.reporter.started()
    with supervised(run.run):
        async with watching(run.run) as (app, _):
            assert not app.screen.query_one(PeakMemory).display


async def test_before_the_first_step_the_phase_is_said(home: Path) -> None:
    run = SyntheticRun(home, "starting")
    run.reporter.started()
    run.reporter.phase("loading libraries")
    with supervised(run.run):
        async with watching(run.run) as (app, _):
            assert "running · loading libraries…" in header(app)[0]
            assert "No answers" in pane(app, SamplesPane)


async def test_samples_follow_the_newest_until_scrubbed(home: Path) -> None:
    live = SyntheticRun(home, "live").start().sample(0).steps(1, 100)
    with supervised(live.run):
        async with watching(live.run) as (app, pilot):
            samples = app.screen.query_one(SamplesPane)
            assert samples.step == 100
            assert "at step 0: The the of a a of the." in pane(app, SamplesPane)
            await pilot.press("left_square_bracket")
            assert samples.step == 50
            assert "[bold]all[/bold]" in pane(app, SamplesPane)
            live.steps(101, 150)
            await until(pilot, lambda: "step 150/300" in header(app)[0])
            assert samples.step == 50
            await pilot.press("right_square_bracket", "right_square_bracket")
            assert samples.step == 150
            live.steps(151, 200)
            await until(pilot, lambda: samples.step == 200)
            await pilot.press(*["left_square_bracket"] * 9)
            assert samples.step == 0
            assert "at step 0" not in pane(app, SamplesPane)
            assert "(an empty answer)" in pane(app, SamplesPane)


async def test_stop_asks_writes_the_command_and_shows_that_it_stops(home: Path) -> None:
    live = SyntheticRun(home, "live").start().steps(1, 30)
    with supervised(live.run):
        async with watching(live.run) as (app, pilot):
            await pilot.press("s")
            await pilot.pause(0.1)
            assert isinstance(app.screen, ConfirmScreen)
            await pilot.press("n")
            await pilot.pause(0.1)
            assert not live.run.control.exists()
            await pilot.press("s")
            await pilot.pause(0.1)
            await pilot.press("y")
            await until(pilot, lambda: "stopping…" in header(app)[0])
            live.beat("terminating")
            await until(pilot, lambda: "SIGTERM" in header(app)[0])
            assert orjson.loads(live.run.control.read_bytes())["command"] == "stop"
            assert any("was asked to stop" in toast.message for toast in app._notifications)


@pytest.mark.parametrize(("key", "name"), [("w", "save"), ("g", "sample")])
async def test_save_and_sample_are_sent_at_once_and_the_answer_is_told(home: Path, key: str, name: str) -> None:
    live = SyntheticRun(home, "live").start().steps(1, 30)
    with supervised(live.run):
        async with watching(live.run) as (app, pilot):
            await pilot.press(key)
            await until(pilot, live.run.control.exists)
            command = orjson.loads(live.run.control.read_bytes())
            assert command["command"] == name
            live.acknowledge(command, "after this step")
            await until(pilot, lambda: any(toast.message == "after this step" for toast in app._notifications))


async def test_an_error_becomes_a_toast(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: RunDirectory, name: str) -> None:
        raise RunError(f"{run.name} is not running, so it cannot {name}.", "See [its] end.")

    monkeypatch.setattr("workbench.tui.screens.run_actions.send_command", refuse)
    live = SyntheticRun(home, "live").start().steps(1, 30)
    with supervised(live.run):
        async with watching(live.run) as (app, pilot):
            await pilot.press("w")
            await pilot.pause(0.1)
            toasts = [(toast.title, toast.message, toast.severity) for toast in app._notifications]
    assert toasts == [("live is not running, so it cannot save.", "See [its] end.", "error")]


async def test_a_crash_is_seen_at_once_and_explained(home: Path) -> None:
    live = SyntheticRun(home, "live").start().steps(1, 60)
    with ExitStack() as supervisor:
        supervisor.enter_context(supervised(live.run))
        async with watching(live.run) as (app, pilot):
            assert "running" in header(app)[0]
            supervisor.close()
            await until(pilot, lambda: "● crashed" in header(app)[0], seconds=2)
            await until(pilot, lambda: "gone without a word" in postmortem(app))
            assert app.watch_screen.check_action("stop", ()) is False


async def test_a_stalled_run_is_told_from_a_running_one(home: Path) -> None:
    live = SyntheticRun(home, "live").start().steps(1, 60)
    live.run.status.write_bytes(orjson.dumps({"phase": "running", "heartbeat_monotonic": -100.0}))
    with supervised(live.run):
        async with watching(live.run) as (app, _):
            assert "● stalled · its supervisor is silent" in header(app)[0]
            assert "no sign of life" in notice(app)


async def test_without_a_run_asked_for_the_newest_is_shown(home: Path) -> None:
    SyntheticRun(home, "older", hour=8).start().steps(1, 20).finish()
    SyntheticRun(home, "newer", hour=9).start().steps(1, 20).finish()
    async with watching() as (app, pilot):
        assert header(app)[0].startswith("newer")
        assert "Press c" in notice(app)
        app.watch_run(app.runs[1].run)
        await until(pilot, lambda: header(app)[0].startswith("older"))


async def test_a_deleted_run_leaves_a_sentence(home: Path) -> None:
    run = SyntheticRun(home, "gone").start().steps(1, 20).finish()
    async with watching(run.run) as (app, pilot):
        shutil.rmtree(run.run.path)
        await until(pilot, lambda: app.screen.has_class("-empty"))
        assert "gone was deleted" in str(app.screen.query_one("#empty", Static).render())


async def test_keys_change_the_metric_the_scale_and_the_axis(home: Path) -> None:
    run = SyntheticRun(home, "done").start().steps(1, 100).finish()
    async with watching(run.run) as (app, pilot):
        panel, chart = app.screen.query_one(MetricPanel), app.screen.query_one(LineChart)
        assert panel.metric == "loss"
        assert "eval/loss" in chart.text
        await pilot.press("m")
        assert panel.metric == "grad_norm"
        assert "train/grad_norm" in chart.text
        await pilot.press("l", "x")
        assert chart.log_scale
        assert "time" in chart.text
        await pilot.press("m", "m", "m", "m")
        assert panel.metric == "loss"


def test_training_and_evaluation_share_a_chart() -> None:
    groups = metric_groups(["eval/loss", "eval/runtime", "memory/resident", "train/loss", "train/grad_norm"])
    assert groups == {"loss": ("train/loss", "eval/loss"), "grad_norm": ("train/grad_norm",),
                      "resident": ("memory/resident",)}


async def test_a_small_screen_shows_one_pane_at_a_time(home: Path) -> None:
    run = SyntheticRun(home, "done").start().sample(0).steps(1, 100).finish()
    async with watching(run.run, (80, 24)) as (app, pilot):
        kinds = (SamplesPane, LogPane, Gauges)

        def seen() -> list[type]:
            return [kind for kind in kinds if app.screen.query_one(kind).region.area]

        for kind in (*kinds, SamplesPane):
            assert seen() == [kind]
            await pilot.press("tab")
            await pilot.pause(0.1)
        await pilot.resize_terminal(120, 40)
        await pilot.pause(0.1)
        assert seen() == list(kinds)
