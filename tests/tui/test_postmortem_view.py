"""The post-mortem in Watch: what it says of a run that failed or crashed, and the keys with which it goes on."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.tui.synthetic import SyntheticRun, append_damage, supervised, watch_starts
from tests.tui.test_runs_screen import asked, until
from tests.tui.test_watch_screen import header, notice, pane, postmortem, watching
from workbench.engine.recipe_diff import SettingChange
from workbench.engine.runs.postmortem import Ending
from workbench.engine.runs.state import Attempt
from workbench.tui.run_postmortem import GoodCheckpoint, PostMortem
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.screens.plan import PlanScreen
from workbench.tui.widgets.line_chart import LineChart
from workbench.tui.widgets.log_pane import LogPane
from workbench.tui.widgets.plan_form import PlanForm
from workbench.tui.widgets.postmortem import PostMortemPane, attempt_words, postmortem_lines


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What supervisors were asked to go on with, in the place of starting them."""
    return watch_starts(monkeypatch)


def restarted_then_failed(home: Path) -> SyntheticRun:
    run = SyntheticRun(home, "failed").start().steps(1, 60).checkpoint(50)
    run.event("restarted", step=50, checkpoint="checkpoints/step-00000050", cause="killed", attempt=1, of=3, changes={})
    return run.start().steps(51, 120).fail()


async def test_a_failed_run_opens_on_all_of_it_without_scrolling_at_80x24(home: Path) -> None:
    failed = restarted_then_failed(home)
    append_damage(failed.run)
    async with watching(failed.run, (80, 24)) as (app, pilot):
        shown = app.watch_screen.query_one(PostMortemPane)
        assert "● failed" in header(app)[0]
        for words in ("GPU 0 ran out of memory", "torch.OutOfMemoryError", "What to do  ",
                      "Checkpoint  step 100, written just now, verified",
                      "Before      restarted at step 50 after: killed (1 of 3)",
                      "training.per_device_train_batch_size  − 4  + 2",
                      "training.gradient_accumulation_steps  − 4  + 8"):
            assert words in postmortem(app)
        assert not shown.show_vertical_scrollbar
        assert "a applies and resumes" in str(shown.border_subtitle)
        assert notice(app) == "1 damaged line skipped"
        assert app.screen.query_one(LineChart).size.height >= 4
        await pilot.press("s", "p")
        await pilot.pause(0.1)
        assert not isinstance(app.screen, ConfirmScreen)
        await pilot.press("f")
        await pilot.pause(0.2)
        assert postmortem(app) == ""
        await pilot.press("f", "tab", "tab")
        await until(pilot, lambda: bool(app.watch_screen.query_one(LogPane).region.area))
        assert "loading the model" in pane(app, LogPane)
        await until(pilot, lambda: "f shows why" in notice(app))
        await pilot.press("f")
        await until(pilot, lambda: "GPU 0 ran out of memory" in postmortem(app))


async def test_the_change_is_applied_after_a_question_that_shows_it(
        home: Path, started: list[dict[str, Any]]) -> None:
    failed = restarted_then_failed(home)
    async with watching(failed.run) as (app, pilot):
        await pilot.press("a")
        question = await asked(pilot)
        assert "training.per_device_train_batch_size  − 4  + 2" in question
        assert "It goes on from its checkpoint of step 100, which was verified." in question
        assert "The 20 steps after that are made again." in question
        await pilot.press("n")
        await pilot.pause(0.1)
        assert not started
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: bool(started))
        await pilot.press("r")
        await until(pilot, lambda: len(started) == 2)
    assert [request["checkpoint"] for request in started] == ["checkpoints/step-00000100"] * 2
    assert started[0]["changes"] == {"training.per_device_train_batch_size": 2,
                                     "training.gradient_accumulation_steps": 8}
    assert started[1]["changes"] == {}


async def test_a_checkpoint_that_is_damaged_is_told_before_an_earlier_one_is_taken(
        home: Path, started: list[dict[str, Any]]) -> None:
    failed = restarted_then_failed(home)
    (failed.run.checkpoints / "step-00000100" / "optimizer.pt").write_bytes(b"stale")
    async with watching(failed.run) as (_, pilot):
        await pilot.press("r")
        question = await asked(pilot)
        assert "optimizer.pt is damaged" in question
        assert "step 50" in question
        await pilot.press("y")
        await until(pilot, lambda: [request["step"] for request in started] == [50])


async def test_the_changed_recipe_opens_in_plan(home: Path) -> None:
    failed = restarted_then_failed(home)
    async with watching(failed.run) as (app, pilot):
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen) and app.plan_screen.composed)
        await pilot.pause(0.1)
        recipe, base_dir = app.planned
        assert recipe.training.per_device_train_batch_size == 2
        assert recipe.training.gradient_accumulation_steps == 8
        assert base_dir == failed.run.path
        assert str(app.screen.query_one(PlanForm).border_title) == "From failed"


async def test_without_a_checkpoint_it_says_so_and_asks_before_it_begins_anew(
        home: Path, started: list[dict[str, Any]]) -> None:
    run = SyntheticRun(home, "lost").start().steps(1, 40)
    run.reporter.ended(Ending("failed", "killed", "The worker was killed (SIGKILL).", "See `dmesg`."))
    async with watching(run.run, (80, 24)) as (app, pilot):
        assert "Checkpoint  none: it would begin anew" in postmortem(app)
        assert "What to do  See `dmesg`." in postmortem(app)
        assert "10%|#" in postmortem(app)
        assert app.watch_screen.check_action("apply", ()) is False
        await pilot.press("r")
        assert "the 40 steps it made are made again" in await asked(pilot)
        await pilot.press("y")
        await until(pilot, lambda: [request["checkpoint"] for request in started] == [None])


async def test_a_checkpoint_that_is_gone_is_not_called_good(home: Path) -> None:
    run = SyntheticRun(home, "half").start().steps(1, 60).checkpoint(30).checkpoint(60)
    (run.run.checkpoints / "step-00000060" / "manifest.json").unlink()
    run.reporter.ended(Ending("failed", "disk", "The disk is full."))
    async with watching(run.run) as (app, _):
        assert "Checkpoint  step 30, written" in postmortem(app)


async def test_a_worker_that_outlived_its_supervisor_is_told_and_can_be_taken_over(
        home: Path, started: list[dict[str, Any]]) -> None:
    run = SyntheticRun(home, "orphan").start().steps(1, 60)
    with supervised(run.run, "worker.lock"):
        async with watching(run.run, (80, 24)) as (app, pilot):
            assert "● crashed · it still trains" in header(app)[0]
            assert "its training still runs" in postmortem(app)
            assert "r takes it over" in str(app.watch_screen.query_one(PostMortemPane).border_subtitle)
            assert app.watch_screen.check_action("stop", ()) is True
            await pilot.press("r")
            await until(pilot, lambda: started == [{"run": run.run.id}])


async def test_a_run_that_fails_under_watch_shows_why_and_one_that_goes_on_hides_it(home: Path) -> None:
    run = SyntheticRun(home, "live").start().steps(1, 40).checkpoint(40)
    with ExitStack() as supervisor:
        supervisor.enter_context(supervised(run.run))
        async with watching(run.run) as (app, pilot):
            assert postmortem(app) == ""
            run.reporter.ended(Ending("failed", "hang", "It hung.", evidence=("[bold]\x1b[31mno markup[/bold]",)))
            supervisor.close()
            await until(pilot, lambda: "It hung." in postmortem(app))
            assert "[bold]\\x1b[31mno markup[/bold]" in postmortem(app)
            supervisor.enter_context(supervised(run.run))
            run.event("resumed", step=40, checkpoint="checkpoints/step-00000040", changes={}, attempt=1)
            await until(pilot, lambda: "resuming…" in header(app)[0])
            assert postmortem(app) == ""
            run.event("restarted", step=40, checkpoint=None, cause="oom", attempt=2, of=3, changes={})
            await until(pilot, lambda: "restarting · 2 of 3…" in header(app)[0])
            run.start().steps(41, 50)
            await until(pilot, lambda: "● running" in header(app)[0])
            assert notice(app) == "restarted at step 40 after: out of memory (2 of 3)"


def test_as_much_evidence_as_there_is_room_for() -> None:
    why = PostMortem("failed: an error", "It broke.", None, tuple(f"line {number} " + "x" * 70 for number in range(9)),
                     False, GoodCheckpoint(10, 0.0), (), (SettingChange("training.packing", True, None),), False)
    short, roomy = (list(map(str, postmortem_lines(why, 74, roomy))) for roomy in (False, True))
    assert sum("xxx" in line for line in short) <= 3
    assert sum("xxx" in line for line in roomy) == 4
    assert short[-1] == "Change      training.packing  − true  + not set"
    assert max(map(len, short + roomy)) <= 74


@pytest.mark.parametrize(("attempt", "words"), [
    (Attempt(0, {}), "resumed from its beginning"),
    (Attempt(50, {"training.learning_rate": 1e-4}), "resumed at step 50, learning_rate 0.0001"),
    (Attempt(50, {}, "oom"), "restarted at step 50 after: out of memory"),
])
def test_what_went_before_in_words(attempt: Attempt, words: str) -> None:
    assert attempt_words(attempt) == words
