"""Prints what the line chart costs: bytes to the terminal and CPU per update at 4 Hz, and 1 M points."""

import asyncio
import math
import random
import time
from array import array
from collections.abc import Callable

from textual.app import App, ComposeResult
from textual.drivers.headless_driver import HeadlessDriver

from workbench.tui.widgets.chart_frame import compose
from workbench.tui.widgets.chart_model import Memory, View
from workbench.tui.widgets.line_chart import LineChart, Series
from workbench.tui.widgets.series_bins import Track
from workbench.tui.widgets.span_updates import SpanApp

UPDATES = 120
POINTS_BEFORE = 400
POINTS_AFTER = 1000


class CountingDriver(HeadlessDriver):
    """A terminal that only counts what it is sent."""

    sent = 0

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        CountingDriver.sent += len(data.encode())

    def flush(self) -> None: ...


class PlainApp(App[None]):
    def compose(self) -> ComposeResult:
        yield LineChart(title="loss", x_label="step")


class TrimmedApp(SpanApp):
    def compose(self) -> ComposeResult:
        yield LineChart(title="loss", x_label="step")


def loss(step: int, noise: random.Random) -> float:
    return 1.4 + 2.6 * math.exp(-step / 120) + noise.gauss(0, 0.05)


async def watch(
    app: App[None], size: tuple[int, int], x_range: tuple[float, float] | None, full: bool
) -> tuple[list[int], float]:
    """Append one point per update; bytes sent by each, and CPU seconds of all."""
    app.driver_class = CountingDriver
    noise = random.Random(0)
    x, y, smooth = array("d"), array("d"), array("d")
    eval_x, eval_y = array("d"), array("d")

    def append() -> None:
        step = len(x) + 1
        x.append(step)
        y.append(loss(step, noise))
        smooth.append(y[-1] if not smooth else 0.9 * smooth[-1] + 0.1 * y[-1])
        if step % 50 == 0:
            eval_x.append(step)
            eval_y.append(smooth[-1] + 0.1)

    sizes: list[int] = []
    cpu = 0.0
    task = asyncio.create_task(app.run_async(size=size))
    while not app.is_running or not app.screen.query(LineChart):
        await asyncio.sleep(0.01)
    chart = app.screen.query_one(LineChart)
    series = [Series("train", x, smooth), Series("raw", x, y, "$accent", faint=True), Series("eval", eval_x, eval_y)]
    for _ in range(POINTS_BEFORE):
        append()
    chart.show(series, x_range=x_range)
    await asyncio.sleep(0.5)
    for _ in range(UPDATES):
        append()
        before, started = CountingDriver.sent, time.process_time()
        chart.show(series, x_range=x_range)
        if full:
            chart.refresh()
        await asyncio.sleep(0.04)
        sizes.append(CountingDriver.sent - before)
        cpu += time.process_time() - started
    app.exit()
    await task
    return sizes, cpu


def report_bytes(size: tuple[int, int]) -> None:
    print(f"\nbytes to the terminal per update, chart {size[0]} x {size[1]}, 3 curves, one point per update")
    print(f"{'repaint':<34}{'x axis':<12}{'median':>8}{'mean':>8}{'max':>8}{'kB/s at 4 Hz':>14}{'CPU ms':>8}")
    cases: list[tuple[str, Callable[[], App[None]], bool]] = [
        ("whole widget", PlainApp, True),
        ("changed spans, Textual's updates", PlainApp, False),
        ("changed spans, trimmed updates", TrimmedApp, False),
    ]
    for label, make, full in cases:
        for axis, x_range in (("fixed", (0.0, float(POINTS_AFTER))), ("growing", None)):
            sizes, cpu = asyncio.run(watch(make(), size, x_range, full))
            mean = sum(sizes) / len(sizes)
            print(
                f"{label:<34}{axis:<12}{sorted(sizes)[len(sizes) // 2]:>8,}{mean:>8,.0f}{max(sizes):>8,}"
                f"{mean * 4 / 1000:>14.2f}{cpu / UPDATES * 1000:>8.1f}"
            )


def report_million() -> None:
    noise = random.Random(0)
    points = 1_000_000
    x = array("d", range(points))
    y = array("d", (loss(step // 1000, noise) for step in range(points)))
    memory, series = Memory([Track()]), [Series("train", x, y)]
    print("\n1,000,000 points into 100 x 30 cells")
    started = time.perf_counter()
    compose(series, View(x_range=(0, 1.5e6)), memory, 100, 30)
    print(f"first frame           {(time.perf_counter() - started) * 1000:8.1f} ms")
    x.append(points)
    y.append(1.4)
    started = time.perf_counter()
    compose(series, View(x_range=(0, 1.5e6)), memory, 100, 30)
    print(f"after one more point  {(time.perf_counter() - started) * 1000:8.1f} ms")


if __name__ == "__main__":
    report_bytes((100, 30))
    report_bytes((160, 50))
    report_million()
