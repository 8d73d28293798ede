"""The chart inside a running application: what is repainted, what reaches the terminal, keys and mouse."""

import asyncio
import math
import re
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.drivers.headless_driver import HeadlessDriver
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widgets import Static

from workbench.tui.widgets.line_chart import LineChart, Series
from workbench.tui.widgets.span_updates import SpanApp, TrimmedUpdate


class ChartApp(SpanApp):
    def __init__(self) -> None:
        super().__init__()
        self.moves: list[float | None] = []

    def compose(self) -> ComposeResult:
        yield Static("above")
        yield LineChart(title="loss", x_label="step")

    def on_line_chart_cursor_moved(self, message: LineChart.CursorMoved) -> None:
        self.moves.append(message.x)


def loss(count: int) -> "tuple[array[float], array[float]]":
    return array("d", range(count)), array("d", (2 + math.cos(i / 30) for i in range(count)))


@asynccontextmanager
async def running(width: int = 80, height: int = 24) -> AsyncIterator[tuple[LineChart, Pilot[None]]]:
    app = ChartApp()
    async with app.run_test(size=(width, height)) as pilot:
        chart = app.query_one(LineChart)
        await pilot.pause()
        yield chart, pilot


def spy(chart: LineChart, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Region, ...]]:
    calls: list[tuple[Region, ...]] = []
    refresh = chart.refresh

    def record(*regions: Region, **options: bool) -> LineChart:
        calls.append(regions)
        return refresh(*regions, **options)

    monkeypatch.setattr(chart, "refresh", record)
    return calls


async def test_only_what_changed_is_repainted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as (chart, pilot):
        x, y = loss(500)
        chart.show([Series("train", x, y)], x_range=(0, 1000))
        await pilot.pause()
        before = chart.text.splitlines()
        calls = spy(chart, monkeypatch)
        x.append(500)
        y.append(2.5)
        chart.show([Series("train", x, y)], x_range=(0, 1000))
        after = chart.text.splitlines()
        changed = {
            (column, row)
            for row, (old, new) in enumerate(zip(before, after, strict=True))
            for column, (a, b) in enumerate(zip(old, new, strict=True))
            if a != b
        }
        assert len(calls) == 1
        assert changed
        assert changed <= {(c, r.y) for r in calls[0] for c in range(r.x, r.right)}
        assert sum(region.area for region in calls[0]) < 30
        assert all(region.height == 1 for region in calls[0])


async def test_nothing_new_repaints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as (chart, pilot):
        x, y = loss(100)
        chart.show([Series("train", x, y)])
        await pilot.pause()
        calls = spy(chart, monkeypatch)
        chart.show([Series("train", x, y)])
        assert calls == []
        strip = chart.render_line(3)
        assert chart.render_line(3) is strip


@pytest.mark.parametrize("size", [(1, 2), (5, 3), (12, 5), (40, 10), (200, 60)])
async def test_any_size(size: tuple[int, int]) -> None:
    async with running(*size) as (chart, pilot):
        x, y = loss(50)
        for ascii_only in (False, True):
            chart.ascii = ascii_only
            chart.show([Series("train", x, y), Series("empty", [], [])], title="loss")
            await pilot.pause()
            strips = [chart.render_line(row) for row in range(chart.size.height)]
            assert all(strip.cell_length == chart.size.width for strip in strips)
            assert chart.text.isascii() == ascii_only or chart.size.width < 12
        await pilot.resize_terminal(33, 11)
        async with asyncio.timeout(10):
            while chart.size.width != 33:
                await pilot.pause(0.02)
        assert [len(line) for line in chart.text.splitlines()] == [33] * 10


async def test_plain_characters_only() -> None:
    async with running() as (chart, pilot):
        chart.ascii = True
        chart.show([Series("é", [0, 1, 2, 3], [1.0, math.nan, 0.0, 5.0])], title="µ", x_label="→")
        chart.log_scale = True
        chart.cursor_x = 2
        await pilot.pause()
        assert "".join(chart.render_line(row).text for row in range(23)).isascii()


async def test_nothing_to_show() -> None:
    async with running() as (chart, pilot):
        chart.show([], empty="Press ctrl+l to launch.")
        await pilot.pause()
        assert "Press ctrl+l to launch." in chart.text
        await pilot.press("tab", "left", "home")
        assert chart.cursor_x is None


async def test_keys_move_and_remove_the_cursor() -> None:
    async with running() as (chart, pilot):
        x, y = loss(71)
        chart.show([Series("train", x, y)], x_range=(0, 70))
        chart.focus()
        await pilot.press("left")
        assert chart.cursor_x == 70
        assert "step 70" in chart.text
        await pilot.press("left", "left")
        assert chart.cursor_x == 68
        await pilot.press("right", "home")
        assert chart.cursor_x == 0
        await pilot.press("left", "shift+right")
        assert 9 <= chart.cursor_x <= 11
        await pilot.press("escape")
        assert chart.cursor_x is None
        assert chart.text.startswith("loss")
        assert isinstance(pilot.app, ChartApp)
        assert pilot.app.moves[:2] == [70, 69]
        assert pilot.app.moves[-1] is None


async def test_a_click_puts_the_cursor_on_the_nearest_point() -> None:
    async with running() as (chart, pilot):
        chart.show([Series("train", [0, 500, 1000], [1.0, 2.0, 3.0])])
        await pilot.pause()
        await pilot.click(chart, offset=(45, 10))
        assert chart.cursor_x == 500


async def test_colours_follow_the_series_and_the_theme() -> None:
    async with running() as (chart, pilot):
        x, y = loss(50)
        colors = {}
        for theme in ("textual-dark", "nord"):
            pilot.app.theme = theme
            chart.show([Series("train", x, y), Series("eval", x, y, "#ff0000"), Series("odd", x, y, "no colour")])
            await pilot.pause()
            header = {s.text.strip(): s.style.color.triplet.hex for s in chart.render_line(0) if s.style}
            colors[theme] = next(color for text, color in header.items() if "train" in text)
            assert next(color for text, color in header.items() if "eval" in text) == "#ff0000"
        assert colors["textual-dark"] != colors["nord"]


class Terminal(HeadlessDriver):
    """Understands the few sequences Textual writes, and shows what a real terminal would."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        width, height = self._get_terminal_size()
        self.screen = [[" "] * width for _ in range(height)]
        self.bytes = 0

    @property
    def is_headless(self) -> bool:
        return False

    def flush(self) -> None: ...

    def write(self, data: str) -> None:
        self.bytes += len(data.encode())
        column = row = 0
        for move, text in re.findall(r"\x1b\[(\d+;\d+)H|\x1b[\[\]P][^a-zA-Z\x1b]*[a-zA-Z\\]|([^\x1b])", data):
            if move:
                row, column = (int(part) - 1 for part in move.split(";"))
            elif text == "\n":
                row, column = row + 1, 0
            elif text and row < len(self.screen) and column < len(self.screen[0]):
                self.screen[row][column] = text
                column += cell_len(text)


async def shows(driver: Terminal, chart: LineChart) -> None:
    """Wait until the terminal shows what the chart holds and nothing more comes, on a machine that may have more to
    do."""
    sent = -1
    async with asyncio.timeout(10):
        while sent != driver.bytes or "\n".join("".join(row) for row in driver.screen[1:]) != chart.text:
            sent = driver.bytes
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("trimmed", [True, False])
async def test_the_terminal_shows_the_chart_after_partial_updates(
    trimmed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates: list[TrimmedUpdate] = []
    render = TrimmedUpdate.render_segments
    monkeypatch.setattr(TrimmedUpdate, "render_segments", lambda self, c: (updates.append(self), render(self, c))[1])
    app = ChartApp()
    if not trimmed:
        monkeypatch.setattr(SpanApp, "_display", App._display)
    app.driver_class = Terminal
    task = asyncio.create_task(app.run_async(size=(80, 24)))
    while not app.is_running or not app.screen.query(LineChart):
        await asyncio.sleep(0.01)
    chart, driver = app.screen.query_one(LineChart), app._driver
    assert isinstance(driver, Terminal)
    x, y = loss(200)
    chart.show([Series("train", x, y)], x_range=(0, 400))
    await shows(driver, chart)
    whole, driver.bytes = driver.bytes, 0
    for step in range(200, 212):
        x.append(step)
        y.append(2 + math.sin(step))
        chart.show([Series("train", x, y)], x_range=(0, 400))
        await asyncio.sleep(0.05)
    await shows(driver, chart)
    sent = driver.bytes / 12
    app.exit()
    await task
    assert bool(updates) == trimmed
    assert sent < whole / (20 if trimmed else 4)
