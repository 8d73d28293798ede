"""The queue on screen: Runs moves, holds and releases; Plan queues; Watch says why a run waits."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Footer

from tests.tui.synthetic import SyntheticRun, no_gpu, supervised
from tests.tui.test_plan_screen import application, field, settled
from tests.tui.test_runs_screen import rows, runs_screen, until
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.queue_file import join_queue, read_queue
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens import launching
from workbench.tui.screens.queueing import QueueLine
from workbench.tui.screens.runs import RunsScreen
from workbench.tui.widgets.run_header import RunHeader
from workbench.tui.widgets.runs_table import RunsTable

REASON = "1 before it on GPU 0; GPU 1 has 12.1 GiB free and it needs 18.4 GiB"


def waits(home: Path, name: str, hour: int, reason: str) -> RunDirectory:
    run = SyntheticRun(home, name, hour=hour).run
    with Journal(run.events) as journal:
        journal.append("queued")
        journal.append("waiting", reason=reason)
    return run


@pytest.fixture
def queued(home: Path) -> Iterator[list[RunDirectory]]:
    """Three runs that queue, launched one after the other."""
    runs = [waits(home, "alpha", 9, "GPU 0 is taken by other"), waits(home, "beta", 10, REASON),
            waits(home, "gamma", 11, "2 before it on GPU 0 and 1")]
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(supervised(run))
            join_queue(run)
        yield runs


def order() -> list[tuple[str, bool]]:
    return [(RunDirectory(Path(entry.run)).name, entry.held) for entry in read_queue().entries]


def footer(app: WorkbenchApp) -> list[str]:
    """The words of the keys at the bottom."""
    return [binding.description for _, binding, enabled, _ in app.screen.active_bindings.values()
            if binding.show and enabled and binding.description]


async def test_runs_shows_places_and_moves_holds_and_releases(queued: list[RunDirectory], home: Path) -> None:
    SyntheticRun(home, "done", hour=12).start().steps(1, 300).finish()
    SyntheticRun(home, "between", hour=9, tail="feed").start().steps(1, 300).finish()
    async with runs_screen() as (app, pilot):
        await until(pilot, lambda: len(app.queue) == 3)
        await pilot.pause(0.1)
        # Together, and in the queue's order.
        assert [(row[0], row[1], row[2]) for row in rows(app)[1:4]] == [
            ("alpha", "● waiting", "queue 1"), ("beta", "● waiting", "queue 2"), ("gamma", "● waiting", "queue 3")]
        line = app.screen.query_one(QueueLine)
        assert not line.display
        assert not {"Up", "Down", "Hold", "Release"} & set(footer(app))
        await pilot.press("down", "down")
        await until(pilot, lambda: line.display)
        assert str(line.render()).startswith(f"Queue 2 of 3 · {REASON} · waits for ")
        assert {"Up", "Down", "Hold"} <= set(footer(app))
        assert "Release" not in footer(app)
        await pilot.press("plus")
        await until(pilot, lambda: [row[0] for row in rows(app)] == ["done", "beta", "alpha", "gamma",
                                                                  "between"])
        chosen = app.screen.query_one(RunsTable).chosen
        assert chosen is not None
        assert chosen.run.name == "beta"
        await pilot.press("h")
        await until(pilot, lambda: rows(app)[1][1] == "● held")
        assert order() == [("beta", True), ("alpha", False), ("gamma", False)]
        await until(pilot, lambda: "Release" in footer(app) and "Hold" not in footer(app))
        await pilot.press("minus")
        await until(pilot, lambda: rows(app)[2][:3] == ["beta", "● held", "queue 2"])
        await pilot.press("h")
        await until(pilot, lambda: order() == [("alpha", False), ("beta", False), ("gamma", False)])


async def test_a_run_that_left_the_queue_meanwhile_is_said(queued: list[RunDirectory]) -> None:
    async with runs_screen() as (app, pilot):
        await until(pilot, lambda: len(app.queue) == 3)
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        app.queue[0].run.lock.unlink()  # as if its supervisor were gone
        screen.action_queue_hold()
        await until(pilot, lambda: any("and not in the queue" in told.title for told in app._notifications))
        await until(pilot, lambda: len(app.queue) == 2)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (20, 5), (1, 1)])
async def test_it_stands_at_every_size(queued: list[RunDirectory], size: tuple[int, int]) -> None:
    async with runs_screen(size) as (app, pilot):
        await until(pilot, lambda: len(app.queue) == 3)
        await pilot.press("h", "plus", "minus")
        await pilot.pause(0.2)
        assert app.screen.query_one(Footer)


async def test_watch_says_all_of_why_a_run_waits(queued: list[RunDirectory]) -> None:
    app = WorkbenchApp(start="watch", run=queued[1], hardware=no_gpu)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not app.screen.has_class("-empty"))
        await pilot.pause(0.2)
        line = str(app.screen.query_one(RunHeader).compose_lines(118)[0])
        assert f"waiting · {REASON}" in line
        assert len(line) <= 118


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """In the place of the launcher: whether each launch was to queue."""
    launches: list[bool] = []

    def launch(recipe: Any, plan: Any, base_dir: Any, rehearsal: Any, queue: bool) -> RunDirectory:
        launches.append(queue)
        return RunDirectory(Path("/nowhere/20260101-100000-gone-c0de"))

    monkeypatch.setattr(launching, "launch", launch)
    return launches


async def test_ctrl_q_queues_on_plan_and_q_quits(launched: list[bool]) -> None:
    app = application()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await settled(pilot)
        assert "Queue" in footer(app)
        field(screen, "model").query_one("Input").focus()
        await pilot.press("ctrl+q")
        await until(pilot, lambda: launched == [True])
        await pilot.press("1")
        await launch_again(pilot, launched)
        assert launched == [True, False]
        assert app.is_running
        await pilot.press("3")
        await pilot.press("ctrl+q")
        await pilot.pause(0.2)
        assert app.is_running
        await pilot.press("q")
        await pilot.pause(0.2)
        assert not app.is_running


async def launch_again(pilot: Pilot[Any], launched: list[bool]) -> None:
    await settled(pilot)
    await pilot.press("ctrl+l")
    await until(pilot, lambda: len(launched) == 2)
