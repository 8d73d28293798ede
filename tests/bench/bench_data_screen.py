"""A 2 GB file in the Data screen: `python tests/bench/bench_data_screen.py [GB]`.

Prints when the first rows stand there, how long the event loop was held up at most while all of the file was checked,
how long a line in its middle takes to be found, and the resident memory of the screen all along.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.data import DataScreen


def write_rows(path: Path, size: int) -> int:
    """About `size` bytes of conversations; the number of rows."""
    rows = [json.dumps({"messages": [{"role": "user", "content": f"Question {n}: " + "why " * 60},
                                     {"role": "assistant", "content": "Because " * 120}]}) for n in range(4000)]
    block = "".join(f"{row}\n" for row in rows).encode()
    count = 0
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(block)
            count += len(rows)
    return count


def resident() -> str:
    """The screen's resident memory."""
    return f"{psutil.Process().memory_info().rss / 2**20:6.0f} MiB"


async def measure(recipe: Path, rows: int) -> None:
    """Open it, check it, go to its middle."""
    app = WorkbenchApp(start="data", recipe=recipe)
    started = time.perf_counter()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = app.screen
        assert isinstance(screen, DataScreen)
        while screen.row is None:
            await pilot.pause(0.01)
        print(f"first rows      {time.perf_counter() - started:7.2f} s  {resident()}", flush=True)
        held_up, began = 0.0, time.perf_counter()
        while not ((check := app.checks.of(*app.planned)) and check.done and check.structure and check.structure.exact):
            before = time.perf_counter()
            await asyncio.sleep(0.02)
            held_up = max(held_up, time.perf_counter() - before - 0.02)
        print(f"all checked     {time.perf_counter() - began:7.2f} s  {resident()}  loop held up {held_up:.3f} s")
        began = time.perf_counter()
        screen.find_line("rows.jsonl", rows // 2)
        while screen.reading:
            await pilot.pause(0.01)
        assert screen.row is not None
        print(f"line {screen.row.line:>9,}  {time.perf_counter() - began:7.2f} s  {resident()}")


def main() -> None:
    """Write, measure, remove."""
    size = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORKBENCH_HOME"] = folder
        rows = write_rows(Path(folder) / "rows.jsonl", round(size * 1e9))
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text("model: tiny-base\ndataset: rows.jsonl\n")
        asyncio.run(measure(recipe, rows))


if __name__ == "__main__":
    main()
