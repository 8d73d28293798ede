"""Pictures of runs that wait in the queue, in Runs and Watch: `python screenshots/waiting.py`.

It queues the demo four times in a home of its own: the first trains, the others wait, one of them is held.
"""

import asyncio
import os
import tempfile
import time

from make import SIZES, save

from workbench.engine.hardware.host import host_snapshot
from workbench.engine.paths import recipes_dir
from workbench.engine.planning import make_plan
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.control import send_command
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.launcher import launch
from workbench.engine.runs.queue_file import hold_in_queue
from workbench.engine.runs.store import summarise
from workbench.tui.app import WorkbenchApp

NAMES = ("support-bot", "support-bot-r32", "glossary-dpo", "summaries")


def queue_runs() -> list[RunDirectory]:
    """Four runs, one behind the other; the third is held."""
    runs = []
    for name in NAMES:
        recipe = load_recipe(recipes_dir() / "demo.yaml", [f"name={name}"])
        runs.append(launch(recipe, make_plan(recipe, None, [], host_snapshot()), queue=True))
    hold_in_queue(runs[2], True)
    while summarise(runs[0]).step < 30:
        time.sleep(0.2)
    return runs


async def shoot(screen: str, run: RunDirectory, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    """One screen at one size."""
    app = WorkbenchApp(start=screen, run=run)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(2.5)
        await pilot.press(*keys)
        await pilot.pause(1)
        save(app.export_screenshot(), f"{screen}-queue-{size[0]}x{size[1]}", size[0])
        print(f"{screen} {size[0]}x{size[1]}", flush=True)


def main() -> None:
    """Shoot Runs with a waiting run chosen, and Watch on it."""
    os.environ["WORKBENCH_HOME"] = tempfile.mkdtemp()
    runs = queue_runs()
    for size in SIZES:
        asyncio.run(shoot("runs", runs[1], size, ("down",)))
        asyncio.run(shoot("watch", runs[3], size, ()))
    for run in runs:
        send_command(run, "stop")


if __name__ == "__main__":
    main()
