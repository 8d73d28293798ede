"""What the commands share: finding, planning, launching and following runs. Imports stay inside, for a quick start."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from workbench.engine.errors import InputError
from workbench.engine.runs.store import list_runs

if TYPE_CHECKING:
    from workbench.engine.planning import Plan
    from workbench.engine.recipe import Recipe
    from workbench.engine.runs.directory import RunDirectory
    from workbench.engine.runs.resume import Resumption


_LONGEST_LOG = 1 << 26
"""Bytes of a log that are looked through for its last lines."""


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


def launch_recipe(path: Path, overrides: list[str], force: bool = False, queue: bool = False) -> "RunDirectory":
    """Plan a recipe, look at what would go wrong, and start it, in the queue's order if it shall; of a pipeline the
    first stage is returned. Raises InputError or RunError, and typer.Exit(2) where the preflight refuses."""
    from workbench.engine.runs.launcher import launch

    recipe = load(path, overrides)
    plan = checked(plan_recipe(recipe, path), path, force, queue)
    return launch(recipe, plan, path.resolve().parent, queue=queue)


def prepare_resume(run: "RunDirectory", overrides: list[str], step: int | None, apply: bool,
                   force: bool = False, queue: bool = False) -> "Resumption":
    """How a run, or the first unfinished stage of its pipeline, goes on. Raises InputError or RunError, and
    typer.Exit(2) where the preflight refuses."""
    from workbench.engine.runs.deletion import size_on_disk
    from workbench.engine.runs.resume import prepare_resume as prepare
    from workbench.engine.runs.resume import waited_in_queue

    queue = queue or waited_in_queue(run)

    def look(recipe: "Recipe") -> "Plan":
        return checked(plan_recipe(recipe, run.recipe), run.recipe, force, queue, size_on_disk(run))

    return prepare(run, look, overrides, step=step, apply=apply)


def checked(plan: "Plan", path: Path, force: bool = False, queue: bool = False, own_bytes: int = 0) -> "Plan":
    """The plan itself, when nothing speaks against starting it: warnings go to stderr, and `force` passes what may be
    passed. `queue`: it waits for a GPU; `own_bytes`: what a run that goes on holds on the disk.

    Raises typer.Exit(2) after saying every problem with its fix. A plan that cannot run is for the launch to refuse.
    """
    from workbench import console
    from workbench.engine.preflight import Surroundings, preflight, problems_of

    if plan.problems:
        return plan
    checks = preflight(plan, path.resolve().parent, Surroundings(queued=queue, own_bytes=own_bytes))
    problems, lasting = problems_of(checks, force), problems_of(checks, force=True)
    console.print_checks([check for check in checks if check.status != "ok" and check not in problems])
    for problem in problems:
        console.print_error(InputError(problem.message, problem.fix))
    if len(lasting) < len(problems):
        print("--force starts it all the same" + (", once the rest is mended." if lasting else "."), file=sys.stderr)
    if problems:
        raise typer.Exit(2)
    return plan


def after_launch(run: "RunDirectory", detach: bool, json: bool, resumed: bool = False) -> None:
    """Follow a run that was started, and the stages after it, or return at once. Raises typer.Exit when one fails."""
    from workbench import console
    from workbench.engine.runs.chain import chain_from

    chain = chain_from(run)
    if detach and json:
        stages = {"stages": [{"id": one.id, "directory": str(one.path)} for one in chain]} if len(chain) > 1 else {}
        console.print_json({"id": run.id, "directory": str(run.path), **stages})
    elif detach:
        print("\n".join(one.id for one in chain))
    elif json:
        follow_quietly(run)
        documents = [document(one) for one in chain]
        console.print_json({**documents[0], **({"stages": documents} if len(documents) > 1 else {})})
        if any(document["state"] in ("failed", "crashed") for document in documents):
            raise typer.Exit(1)
    else:
        follow_chain(run, resumed)


def follow_chain(run: "RunDirectory", resumed: bool = False) -> None:
    """Print the lines of a run, and of the stages after it, to their end; of one that was just `resumed` the new ones.
    Ctrl-C leaves them running. Raises typer.Exit(1) when one failed.
    """
    from workbench.engine.runs.chain import chain_from, stage_of

    failed = False
    for one in chain_from(run):
        if place := stage_of(one):
            print(f"{place.words}: {one.name}", flush=True)
        name = follow(one, resumed and one == run)
        if name is None:
            return
        failed = failed or name in ("failed", "crashed")
    if failed:
        raise typer.Exit(1)


def follow(run: "RunDirectory", resumed: bool = False) -> str | None:
    """Print a run's lines to its end and give its state; None when Ctrl-C left it running. Raises InputError."""
    from workbench.engine.runs.follow import follow_lines
    from workbench.engine.runs.store import RunFollower

    print(f"run {run.id}", flush=True)
    follower = RunFollower(run)
    try:
        for line in follow_lines(follower, resumed=resumed):
            print(line, flush=True)
    except KeyboardInterrupt:
        print(f"\n{run.id} goes on. Return to it: workbench watch {run.id}   Stop it: workbench stop {run.id}")
        return None
    except FileNotFoundError:
        raise InputError(f"{run.id} was deleted.") from None
    return follower.name


def follow_quietly(run: "RunDirectory") -> None:
    """Wait for the end of a run, and of the stages after it."""
    from workbench.engine.runs.chain import chain_from
    from workbench.engine.runs.follow import follow_lines
    from workbench.engine.runs.store import RunFollower

    for one in chain_from(run):
        for _ in follow_lines(RunFollower(one)):
            pass


def document(run: "RunDirectory") -> "dict[str, Any]":
    """Everything known of a run, as `workbench show --json` prints it."""
    from workbench.engine.runs.document import run_document
    from workbench.engine.runs.store import RunFollower

    follower = RunFollower(run)
    follower.refresh()
    return run_document(follower)


def at_work(run: "RunDirectory") -> "RunDirectory":
    """Of a pipeline the stage that runs, for a stage that still waits; else the run itself."""
    from workbench.engine.runs.chain import chain_of, stage_of
    from workbench.engine.runs.store import summarise

    place = stage_of(run)
    if place is None or summarise(run).state != "waiting":
        return run
    return next((one for one in chain_of(place.id) if summarise(one).state in ("queued", "running", "stalled")), run)


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a text, read from its end: a log may be larger than the memory. Raises FileNotFoundError."""
    size = 1 << 16
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while True:
            file.seek(max(end - size, 0))
            lines = file.read(size).decode("utf-8", errors="replace").splitlines()
            if len(lines) > count or size >= min(end, _LONGEST_LOG):
                return lines[-count:]
            size *= 4


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
