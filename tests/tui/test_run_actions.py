"""What is done to runs from the list: pause, stop, resume and delete one or several; and the news of those that end."""

from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from tests.tui.synthetic import SyntheticRun, supervised, watch_starts
from tests.tui.test_runs_screen import asked, finished, rows, runs_screen, until
from tests.tui.test_watch_screen import header, notice, watching
from workbench.engine.runs.postmortem import Ending
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.confirm import ConfirmScreen


def offered(app: WorkbenchApp) -> set[str]:
    """What may be done to what is chosen."""
    return {action for action in ("stop", "pause", "resume", "delete") if app.screen.check_action(action, ())}


def toasts(app: WorkbenchApp) -> list[str]:
    return [toast.title for toast in app._notifications]


def commands(run: SyntheticRun) -> list[str]:
    lines = run.run.control.read_bytes().splitlines() if run.run.control.exists() else []
    return [orjson.loads(line)["command"] for line in lines]


async def test_keys_are_offered_by_state(home: Path) -> None:
    finished(home, "finished", 8)
    SyntheticRun(home, "failed", hour=9).start().steps(1, 9).fail()
    SyntheticRun(home, "paused", hour=10).start().steps(1, 9).event("paused", step=9, checkpoint=None)
    live = SyntheticRun(home, "live", hour=11).start().steps(1, 9)
    orphan = SyntheticRun(home, "orphan", hour=12).start().steps(1, 9)
    with supervised(live.run), supervised(orphan.run, "worker.lock"):
        async with runs_screen() as (app, pilot):
            found = {}
            for row in rows(app):
                found[row[0]] = (row[1], offered(app))
                await pilot.press("down")
                await pilot.pause(0.05)
    assert found == {
        "orphan": ("● crashed", {"stop", "resume"}), "live": ("● running", {"stop", "pause"}),
        "paused": ("● paused", {"stop", "resume", "delete"}), "failed": ("● failed", {"resume", "delete"}),
        "finished": ("● finished", {"delete"})}


async def test_pause_does_not_ask_and_says_what_happens(home: Path) -> None:
    live = SyntheticRun(home, "live").start().steps(1, 30)
    with supervised(live.run):
        async with runs_screen() as (app, pilot):
            await pilot.press("p")
            await until(pilot, lambda: commands(live) == ["pause"])
            await until(pilot, lambda: any("leaves its GPU" in toast.message for toast in app._notifications))


async def test_watch_shows_that_it_pauses_and_then_that_it_is_paused(home: Path) -> None:
    live = SyntheticRun(home, "live").start().steps(1, 30)
    with ExitStack() as supervisor:
        supervisor.enter_context(supervised(live.run))
        async with watching(live.run) as (app, pilot):
            await pilot.press("p")
            await until(pilot, lambda: "pausing after this step…" in header(app)[0])
            live.event("paused", step=31, checkpoint="checkpoints/step-00000031")
            supervisor.close()
            await until(pilot, lambda: "● paused" in header(app)[0])
            assert "Press r to go on" in notice(app)
            assert app.watch_screen.check_action("resume", ()) is True
            assert app.watch_screen.check_action("pause", ()) is False


async def test_several_are_marked_and_stopped_together(home: Path) -> None:
    runs = [SyntheticRun(home, name, hour=hour).start().steps(1, 9) for name, hour in (("one", 9), ("two", 10))]
    done = finished(home, "done", 8)
    with ExitStack() as holders:
        for run in runs:
            holders.enter_context(supervised(run.run))
            holders.enter_context(supervised(run.run, "worker.lock"))
        async with runs_screen() as (app, pilot):
            await pilot.press("space", "space", "space")
            assert [row[0] for row in rows(app)] == ["■ two", "■ one", "■ done"]
            assert "3 marked" in str(app.screen.query_one("#counts").render())
            await pilot.press("s")
            text = await asked(pilot)
            assert "It ends after its current step; when nothing moves for" in text
            assert "SIGKILL 15s later" in text
            await pilot.press("y")
            await until(pilot, lambda: commands(runs[0]) == commands(runs[1]) == ["stop"])
            assert commands(done) == []
            await pilot.press("escape")
            await pilot.pause(0.1)
            assert [row[0] for row in rows(app)] == ["two", "one", "done"]


async def test_several_are_resumed_or_deleted_together(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = watch_starts(monkeypatch)
    paused = SyntheticRun(home, "paused", hour=10).start().steps(1, 9).event("paused", step=9, checkpoint=None)
    failed = SyntheticRun(home, "failed", hour=9).start().steps(1, 9).fail()
    async with runs_screen() as (app, pilot):
        await pilot.press("space", "space", "r")
        # The one without a checkpoint would begin anew: that is asked.
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: len(asked) == 2)
        assert {request["run"] for request in asked} == {paused.run.id, failed.run.id}
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: not paused.run.path.exists() and not failed.run.path.exists())


async def test_a_run_that_ends_elsewhere_is_told_once_and_not_where_it_is_shown(home: Path) -> None:
    run = SyntheticRun(home, "live").start().steps(1, 30)
    SyntheticRun(home, "long-over", hour=8).start().steps(1, 9).fail()
    with ExitStack() as supervisor:
        supervisor.enter_context(supervised(run.run))
        async with runs_screen() as (app, pilot):
            await until(pilot, lambda: rows(app)[0][1] == "● running")
            run.reporter.ended(Ending("failed", "killed", "It was killed."))
            supervisor.close()
            await until(pilot, lambda: rows(app)[0][1] == "● failed")
            await until(pilot, lambda: toasts(app) == ["live has failed at step 30."])
            await pilot.pause(1.2)
            assert len(toasts(app)) == 1
    other = SyntheticRun(home, "other", hour=12).start().steps(1, 30)
    with supervised(other.run):
        async with watching(other.run) as (app, pilot):
            await until(pilot, lambda: app.runs[0].state == "running")
            other.finish()
            await until(pilot, lambda: app.runs[0].state == "finished")
            assert toasts(app) == []
