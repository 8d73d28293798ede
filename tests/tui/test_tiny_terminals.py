"""Terminals too small for anything, and resized without end: every screen stands, with runs in every state."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest
from textual.drivers.headless_driver import HeadlessDriver
from textual.events import Resize
from textual.geometry import Size
from textual.pilot import Pilot

from tests.tui.synthetic import SyntheticRun, append_damage, one_gpu, supervised
from tests.tui.test_runs_screen import until
from workbench.engine.runs.state import StateName
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.base import WorkbenchScreen
from workbench.tui.widgets.top_bar import TABS

STORM = [Size(*size) for size in ((20, 5), (1, 1), (3, 40), (200, 1), (120, 40), (80, 13), (2, 2), (1, 24), (20, 5))]


@pytest.fixture
def every_state(home: Path) -> Iterator[dict[StateName, SyntheticRun]]:
    """A run in every state there is."""
    def run(name: str, hour: int) -> SyntheticRun:
        return SyntheticRun(home, name, hour=hour).start().sample(0).steps(1, 60)

    queued, waiting = SyntheticRun(home, "queued", hour=1), SyntheticRun(home, "waiting", hour=2)
    queued.event("queued")
    waiting.event("queued").event("waiting", reason="waits for [a GPU] that is free\x1b[2J")
    runs: dict[StateName, SyntheticRun] = {
        "queued": queued, "waiting": waiting, "running": run("running", 3), "stalled": run("stalled", 4),
        "paused": run("paused", 5).event("paused", step=60, checkpoint=None), "finished": run("finished", 6).finish(),
        "failed": run("failed", 7).fail(), "crashed": run("crashed", 8), "stopped": run("stopped", 9)}
    runs["stopped"].event("ended", outcome="stopped", explanation="Stopped on request.")
    runs["stalled"].run.status.write_bytes(orjson.dumps({"phase": "running", "heartbeat_monotonic": -100.0}))
    append_damage(runs["failed"].run)
    with ExitStack() as holders:
        for name in ("queued", "waiting", "running", "stalled"):
            holders.enter_context(supervised(runs[name].run))
        holders.enter_context(supervised(runs["crashed"].run, "worker.lock"))
        yield runs


async def storm(pilot: Pilot[None]) -> None:
    """One size after the other, each drawn; then all of them at once."""
    driver = pilot.app._driver
    assert isinstance(driver, HeadlessDriver)
    for waits in (True, False):
        for size in STORM:
            driver._size = size
            pilot.app.post_message(Resize(size, size))
            if waits:
                # `resize_terminal` waits for an idle processor too, which a machine that tests does not have.
                await pilot.pause(0)
    await pilot.pause(0)


async def test_every_screen_stands_at_every_size(every_state: dict[StateName, SyntheticRun]) -> None:
    app = WorkbenchApp(start="runs", hardware=one_gpu)
    async with app.run_test(size=(1, 1)) as pilot:
        await until(pilot, lambda: len(app.runs) == len(every_state))
        assert {run.state for run in app.runs} == set(every_state)
        for _, mode, _ in TABS:
            app.action_go(mode)
            await pilot.pause(0.1)
            assert isinstance(app.screen, WorkbenchScreen)
            assert mode == app.screen.MODE
            await storm(pilot)
            app.action_help()
            await storm(pilot)
            app.pop_screen()


async def test_watch_stands_at_every_size_with_a_run_in_every_state(every_state: dict[StateName, SyntheticRun]) -> None:
    app = WorkbenchApp(start="watch", run=every_state["running"].run, hardware=one_gpu)
    async with app.run_test(size=(20, 5)) as pilot:
        for state, run in every_state.items():
            app.watch_run(run.run)
            await until(pilot, lambda run=run: app.watch_screen.subject is not None  # type: ignore[misc]
                        and app.watch_screen.subject.run == run.run)
            assert app.watch_screen.subject is not None
            assert app.watch_screen.subject.state == state
            await storm(pilot)
            # Without the post-mortem, on another pane; a question stands too, and is refused.
            app.watch_screen.action_why()
            app.watch_screen.action_next_pane()
            await pilot.press("a" if state == "failed" else "s")
            await storm(pilot)
            await pilot.press("escape")
        assert not any(run.run.control.exists() for run in every_state.values())


async def test_a_terminal_that_grew_shows_the_whole_post_mortem(every_state: dict[StateName, SyntheticRun]) -> None:
    app = WorkbenchApp(start="watch", run=every_state["failed"].run, hardware=one_gpu)
    async with app.run_test(size=(1, 1)) as pilot:
        await until(pilot, lambda: app.watch_screen.subject is not None)
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "Checkpoint  step 100" in "\n".join(
            str(widget.render()) for widget in app.screen.query("PostMortemPane Static")))
        assert "1 damaged line skipped" in str(app.screen.query_one("Notice").render())
