"""Runs of every objective and of pipelines: the curves that tell most, the best checkpoint, a chain's neighbours."""

from pathlib import Path

import pytest

from tests.tui.synthetic import SyntheticRun, supervised, watch_starts
from tests.tui.test_runs_screen import rows, runs_screen, until
from tests.tui.test_watch_screen import notice, pane, watching
from workbench.engine.objectives import OBJECTIVES
from workbench.engine.runs.postmortem import explain_exception
from workbench.tui.screens.picker import PickerScreen
from workbench.tui.widgets.line_chart import LineChart
from workbench.tui.widgets.metric_panel import MetricPanel, metric_groups
from workbench.tui.widgets.run_header import StageLine
from workbench.tui.widgets.samples_pane import SamplesPane


def chain(home: Path) -> list[SyntheticRun]:
    """A pipeline of three whose second stage failed: the third one never began."""
    first = SyntheticRun(home, "chain-1-sft", hour=8).trains_for("sft", 1, 3).start().steps(1, 60).finish()
    second = SyntheticRun(home, "chain-2-reward", hour=9).trains_for("reward", 2, 3, first.run.id).start()
    second.steps(1, 20).fail()
    third = SyntheticRun(home, "chain-3-rlhf", hour=10).trains_for("rlhf", 3, 3, second.run.id)
    third.reporter.ended(explain_exception("RuntimeError", "the stage before failed"))
    return [first, second, third]


@pytest.mark.parametrize("objective", ["dpo", "rlhf", "orpo", "reward"])
async def test_a_run_opens_on_what_tells_most_of_its_objective(home: Path, objective: str) -> None:
    charts = OBJECTIVES[objective].charts
    run = SyntheticRun(home, "done").trains_for(objective).start()
    run.steps(1, 40, **{name: 0.5 for name in charts if name != "train/loss"}).finish()
    async with watching(run.run) as (app, pilot):
        panel = app.screen.query_one(MetricPanel)
        shown = []
        for _ in charts:
            shown += app.screen.query_one(LineChart).text.split("\n")[0].split()
            await pilot.press("m")
        assert [name for name in shown if name.startswith("train/")] == list(dict.fromkeys(
            other for name in charts for other in metric_groups(charts, charts).values() if name in other
            for other in other))
        await pilot.press("M")
        await pilot.pause(0.1)
        assert isinstance(app.screen, PickerScreen)
        await pilot.press(*"grad", "enter")
        await pilot.pause(0.1)
        assert panel.metric == "grad_norm"


def test_chosen_and_rejected_stand_on_one_chart_and_own_metrics_come_first() -> None:
    names = ["train/loss", "eval/loss", "train/rewards/chosen", "train/rewards/rejected", "train/rewards/margins"]
    groups = metric_groups(names, ("train/rewards/margins", "train/rewards/chosen"))
    assert list(groups) == ["rewards/margins", "rewards", "loss"]
    assert groups["rewards"] == ("train/rewards/chosen", "train/rewards/rejected")
    assert groups["loss"] == ("train/loss", "eval/loss")


async def test_the_best_checkpoint_is_marked(home: Path) -> None:
    run = SyntheticRun(home, "done").trains_for("sft").start().steps(1, 110)
    run.reporter.eval(120, {"eval/loss": 0.41})
    run.reporter.checkpoint(120, "checkpoints/step-00000120", [], best=0.41)
    run.steps(121, 160).finish()
    async with watching(run.run) as (app, pilot):
        assert "best: step 120 0.41" in app.screen.query_one(LineChart).text
        assert "0.41 at 120" in str(app.screen.query_one("RunHeader").render())
        await pilot.press("m")
        assert "best" not in app.screen.query_one(LineChart).text


async def test_a_reward_model_is_not_talked_to(home: Path) -> None:
    run = SyntheticRun(home, "done").trains_for("reward").start()
    run.reporter.step(1, 0.1, 300, {"train/loss": 0.7})
    run.finish()
    async with watching(run.run) as (app, _):
        assert "talk to the model" not in notice(app)
        assert "scores" in pane(app, SamplesPane)
        assert app.watch_screen.check_action("chat", ()) is False


async def test_a_stage_says_where_it_stands_and_keys_go_to_its_neighbours(home: Path) -> None:
    first, second, third = chain(home)
    async with watching(second.run) as (app, pilot):
        line = app.screen.query_one(StageLine)
        assert str(line.render()).startswith("stage 2 of 3 · sft finished → [reward failed] → rlhf failed")
        await pilot.press("less_than_sign")
        await until(pilot, lambda: "[sft finished]" in str(line.render()))
        await pilot.press("less_than_sign")
        assert app.watch_screen.reader is not None
        assert app.watch_screen.reader.follower.run == first.run
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: "[reward failed]" in str(line.render()))
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: "[rlhf failed]" in str(line.render()))
        assert app.watch_screen.reader.follower.run == third.run
    alone = SyntheticRun(home, "alone", hour=11).start().steps(1, 5)
    with supervised(alone.run):
        async with watching(alone.run) as (app, _):
            assert not app.screen.query_one(StageLine).display
            assert app.watch_screen.check_action("resume", ()) is False


async def test_a_chain_stands_together_and_can_be_resumed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second, third = chain(home)
    SyntheticRun(home, "between", hour=9, tail="beef").start().steps(1, 5).finish()
    resumed = watch_starts(monkeypatch)
    async with runs_screen() as (app, pilot):
        table = rows(app)
        assert [row[0] for row in table] == ["┌ 1/3 sft chain", "├ 2/3 reward chain", "└ 3/3 rlhf chain", "between"]
        screen = app.screen
        assert screen.check_action("resume", ()) is False
        await pilot.press("r")
        assert not resumed
        await pilot.press("down")
        await pilot.pause(0.1)
        assert screen.check_action("resume", ()) is True
        await pilot.press("r")
        await until(pilot, lambda: [request["run"] for request in resumed] == [second.run.id, third.run.id])
