"""Runs: the list, its keys, what it refuses."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.tui.synthetic import SyntheticRun, no_gpu, supervised
from workbench.engine.errors import RunError
from workbench.engine.runs.deletion import delete_run
from workbench.engine.runs.directory import RunDirectory
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.screens.runs import RunsScreen
from workbench.tui.screens.watch import WatchScreen
from workbench.tui.widgets.runs_table import RunsTable

SIZES = [(80, 24), (120, 40), (200, 60), (20, 5), (1, 1)]


@asynccontextmanager
async def runs_screen(size: tuple[int, int] = (120, 40)) -> AsyncIterator[tuple[WorkbenchApp, Pilot[None]]]:
    app = WorkbenchApp(start="runs", hardware=no_gpu)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.host is not None)
        await pilot.pause(0.1)
        yield app, pilot


async def until(pilot: Pilot[None], true: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    for _ in range(int(seconds / 0.05)):
        await pilot.pause(0.05)
        if true():
            return
    raise AssertionError("it did not come true in time")


async def asked(pilot: Pilot[None]) -> str:
    """The question that is asked, once it is: its title, what it means, its answers."""
    await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen) and bool(pilot.app.screen.query("Vertical")))
    await pilot.pause(0.1)
    return "\n".join([str(pilot.app.screen.query_one("Vertical").border_title),
                      *(str(widget.render()) for widget in pilot.app.screen.query("Static, Button"))])


def rows(app: WorkbenchApp) -> list[list[str]]:
    """The table as text."""
    table = app.screen.query_one(RunsTable)
    return [[str(cell).strip() for cell in table.get_row_at(index)] for index in range(table.row_count)]


def finished(home: Path, name: str, hour: int) -> SyntheticRun:
    return SyntheticRun(home, name, hour=hour).start().steps(1, 300).finish()


@pytest.mark.parametrize("size", SIZES)
async def test_it_stands_at_every_size(home: Path, size: tuple[int, int]) -> None:
    async with runs_screen(size) as (app, _):
        assert isinstance(app.screen, RunsScreen)
        assert "Press 1" in str(app.screen.query_one("#none", Static).render())
    finished(home, "support-bot", 9)
    async with runs_screen(size) as (app, _):
        assert rows(app)[0][0] == "support-bot"


async def test_it_shows_every_run_with_its_state_newest_first(home: Path) -> None:
    finished(home, "first", 8)
    SyntheticRun(home, "second", hour=9).start().steps(1, 120).fail()
    SyntheticRun(home, "third", hour=10).start().steps(1, 60)
    live = SyntheticRun(home, "fourth", hour=11, tail="beef").start().steps(1, 30)
    live.reporter.step(31, 0.31, 300, {"train/loss": float("nan")})
    with supervised(live.run):
        async with runs_screen() as (app, _):
            table = rows(app)
    assert [(row[0], row[1]) for row in table] == [
        ("fourth", "● running"), ("third", "● crashed"), ("second", "● failed"), ("first", "● finished")]
    assert [row[2].split()[-1] for row in table] == ["31/300", "60/300", "120/300", "300/300"]
    assert table[0][3] == "NaN"
    assert float(table[3][3]) == pytest.approx(0.5, abs=0.3)
    assert table[0][6] == "beef"


@pytest.mark.parametrize(("width", "columns"), [(80, 6), (120, 7)])
async def test_columns_fill_the_width_and_no_more(home: Path, width: int, columns: int) -> None:
    finished(home, "support-bot", 9)
    async with runs_screen((width, 24)) as (app, pilot):
        table = app.screen.query_one(RunsTable)
        assert len(table.ordered_columns) == columns
        assert table.virtual_size.width <= table.size.width
        other = 200 - width
        await pilot.resize_terminal(other, 24)
        await pilot.pause(0.2)
        assert len(table.ordered_columns) == 13 - columns
        assert rows(app)[0][0] == "support-bot"


async def test_new_steps_and_new_runs_appear_and_the_cursor_stays_on_its_run(home: Path) -> None:
    live = SyntheticRun(home, "live", hour=9).start().steps(1, 30)
    finished(home, "other", 8)
    with supervised(live.run):
        async with runs_screen() as (app, pilot):
            await pilot.press("down")
            table = app.screen.query_one(RunsTable)
            assert table.chosen is not None
            assert table.chosen.run.name == "other"
            live.steps(31, 77)
            await until(pilot, lambda: rows(app)[0][2].endswith("77/300"))
            finished(home, "newest", 12)
            await until(pilot, lambda: len(rows(app)) == 3)
            assert table.chosen is not None
            assert table.chosen.run.name == "other"


async def test_enter_watches_and_the_filter_narrows(home: Path) -> None:
    finished(home, "alpha", 8)
    SyntheticRun(home, "beta", hour=9).start().steps(1, 20).fail()
    async with runs_screen() as (app, pilot):
        await pilot.press("slash", *"fail")
        await pilot.pause(0.1)
        assert [row[0] for row in rows(app)] == ["beta"]
        await pilot.press(*"x")
        await pilot.pause(0.1)
        assert "esc" in str(app.screen.query_one("#none", Static).render())
        await pilot.press("escape")
        await pilot.pause(0.1)
        assert len(rows(app)) == 2
        assert not app.screen.query_one(Input).display
        await pilot.press("down", "enter")
        await pilot.pause(0.1)
        assert isinstance(app.screen, WatchScreen)
        await until(pilot, lambda: not app.screen.has_class("-empty"))
        assert "alpha" in "".join(str(app.screen.query_one("RunHeader").render()))


async def test_stop_asks_first_and_writes_the_command(home: Path) -> None:
    live = SyntheticRun(home, "live").start().steps(1, 30)
    with supervised(live.run):
        async with runs_screen() as (app, pilot):
            await pilot.press("s")
            await pilot.pause(0.1)
            assert isinstance(app.screen, ConfirmScreen)
            await pilot.press("enter")
            await pilot.pause(0.1)
            assert not live.run.control.exists()
            await pilot.press("s")
            await pilot.pause(0.1)
            await pilot.press("y")
            await until(pilot, live.run.control.exists)
    assert orjson.loads(live.run.control.read_bytes())["command"] == "stop"


async def test_delete_asks_and_a_live_run_is_refused(home: Path) -> None:
    live = SyntheticRun(home, "live", hour=10).start().steps(1, 30)
    ended = finished(home, "ended", 9)
    with supervised(live.run):
        async with runs_screen() as (app, pilot):
            await pilot.press("d")
            await pilot.pause(0.1)
            assert isinstance(app.screen, RunsScreen)
            await pilot.press("down", "d")
            await pilot.pause(0.1)
            assert isinstance(app.screen, ConfirmScreen)
            await pilot.press("escape")
            await pilot.pause(0.1)
            assert ended.run.path.exists()
            await pilot.press("d")
            await pilot.pause(0.1)
            await pilot.press("y")
            await until(pilot, lambda: [row[0] for row in rows(app)] == ["live"])
        assert not ended.run.path.exists()
        assert list((home / "runs").iterdir()) == [live.run.path]
        with pytest.raises(RunError, match="not ended"):
            delete_run(live.run)


def test_nothing_but_a_run_is_deleted(home: Path, tmp_path: Path) -> None:
    kept = tmp_path / "20260101-100000-name-c0de"
    kept.mkdir()
    (home / "runs").mkdir(parents=True)
    (home / "runs" / "notes").mkdir()
    link = home / "runs" / "20260101-110000-link-c0de"
    link.symlink_to(kept)
    for path in (kept, home / "runs" / "notes", link):
        with pytest.raises(RunError, match="left alone"):
            delete_run(RunDirectory(path))
        assert path.exists()
