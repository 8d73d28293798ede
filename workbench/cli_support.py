"""What the commands share: finding, planning, launching and following runs. Imports stay inside, for a quick start."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from workbench.engine.errors import InputError
from workbench.engine.runs.store import list_runs

if TYPE_CHECKING:
    from workbench.engine.planning import Plan
    from workbench.engine.recipe import Recipe
    from workbench.engine.runs.directory import RunDirectory


def find(reference: str) -> "RunDirectory":
    """The run that a word names. Raises InputError."""
    from workbench.engine.runs.directory import find_run

    return find_run(reference)


def load(path: Path, overrides: list[str]) -> "Recipe":
    """The recipe in a file. Raises RecipeError."""
    from workbench.engine.recipe_file import load_recipe

    return load_recipe(path, overrides)


def plan_recipe(recipe: "Recipe", path: Path, cards: Sequence[str] = ()) -> "Plan":
    """What the recipe would do on this machine, or on the named cards that aren't here. Raises InputError for a card
    that is not known."""
    from workbench.engine.hardware.cards import gpu_named
    from workbench.engine.hardware.gpus import list_gpus
    from workbench.engine.hardware.host import host_snapshot
    from workbench.engine.planning import make_plan

    gpus = [gpu_named(card, index) for index, card in enumerate(cards)] or list_gpus()
    return make_plan(recipe, path.resolve().parent, gpus, host_snapshot())


def launch_recipe(path: Path, overrides: list[str]) -> "RunDirectory":
    """Plan a recipe and start it. Raises InputError or RunError."""
    from workbench.engine.runs.launcher import launch

    recipe = load(path, overrides)
    return launch(recipe, plan_recipe(recipe, path), path.resolve().parent)


def follow(run: "RunDirectory") -> None:
    """Print a run's lines to its end; Ctrl-C leaves it running. Raises typer.Exit(1) when it failed."""
    from workbench.engine.runs.follow import follow_lines
    from workbench.engine.runs.store import RunFollower

    print(f"run {run.id}", flush=True)
    follower = RunFollower(run)
    try:
        for line in follow_lines(follower):
            print(line, flush=True)
    except KeyboardInterrupt:
        print(f"\n{run.id} goes on. Return to it: workbench watch {run.id}   Stop it: workbench stop {run.id}")
        return
    except FileNotFoundError:
        raise InputError(f"{run.id} was deleted.") from None
    if follower.name in ("failed", "crashed"):
        raise typer.Exit(1)


def follow_quietly(run: "RunDirectory") -> None:
    """Wait for a run's end."""
    from workbench.engine.runs.follow import follow_lines
    from workbench.engine.runs.store import RunFollower

    for _ in follow_lines(RunFollower(run)):
        pass


def is_interactive() -> bool:
    """Whether somebody sits at a terminal that can show screens."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def open_app(start: str = "plan", run: "RunDirectory | None" = None, recipe: Path | None = None,
              chat: str | None = None) -> None:
    """Open the application, on the run that is alive when there is one. Raises InputError without a terminal."""
    if not is_interactive():
        raise InputError("The application needs a terminal.", "Commands work without one: workbench --help")
    from workbench.tui.app import WorkbenchApp

    if start == "plan" and recipe is None:
        # Who comes back wants to see what is running.
        run = next((found.run for found in list_runs() if found.state in ("running", "stalled")), None)
        start = "watch" if run is not None else start
    WorkbenchApp(start=start, run=run, recipe=recipe, chat=chat).run()
