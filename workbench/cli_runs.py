"""The commands that control runs: resume, pause, stop, delete."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from workbench import cli_support as support
from workbench.cli_memory import Force, Json, Overrides
from workbench.cli_queue import Queue
from workbench.engine.errors import InputError, RunError

if TYPE_CHECKING:
    from workbench.engine.runs.directory import RunDirectory
    from workbench.engine.runs.orders import Answer

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a unique part of one, or `last`.")]
Detach = Annotated[bool, typer.Option(help="Return at once.")]


def resume(run: RunArgument = "last", overrides: Overrides = None,
           step: Annotated[int | None, typer.Option("--from", metavar="STEP", min=0, help="Go on from the checkpoint "
                                                    "of that step, not the newest; 0: from the beginning.")] = None,
           apply: Annotated[bool, typer.Option(help="Make the changes that its failure suggests.")] = False,
           queue: Queue = False, detach: Detach = False, json: Json = False, force: Force = False) -> None:
    """Go on with a run that was paused, stopped, failed or crashed, from its newest good checkpoint.

    --set changes its recipe. Of a pipeline the first unfinished stage goes on, and later ones wait for it again.
    """
    resumption = support.prepare_resume(support.find(run), overrides or [], step, apply, force, queue)
    for line in resumption.words:
        print(line, file=sys.stderr if json or detach else sys.stdout, flush=True)
    started = resumption.start(queue)
    support.after_launch(started[0], detach, json, resumed=True)


def pause(run: RunArgument = "last", json: Json = False) -> None:
    """Save a run after its current step and free its GPU; `workbench resume` goes on exactly there."""
    from workbench.engine.runs.orders import pause_run

    _order(run, "pause", pause_run, json)


def stop(run: RunArgument = "last", json: Json = False) -> None:
    """Stop a run after its current step; what it learned is saved."""
    from workbench.engine.runs.orders import stop_run

    _order(run, "stop", stop_run, json)


def _order(reference: str, name: str, give: "Callable[[RunDirectory], Answer]", json: bool) -> None:
    from workbench import console

    found = support.at_work(support.find(reference)) if reference == "last" else support.find(reference)
    answer = give(found)
    if json:
        console.print_json({"id": found.id, "command": name, "words": list(answer.words),
                            **({"deadline_seconds": answer.deadline} if name == "stop" else {})})
    else:
        print("\n".join((*answer.words, f"See: workbench show {found.id}")))


def is_asked() -> bool:
    """Whether somebody is there to answer a question."""
    return sys.stdin.isatty()


def delete(runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Ids, or unique parts of them.")],
           yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, json: Json = False) -> None:
    """Delete runs with everything they wrote: checkpoints, model, samples, log."""
    from workbench import console
    from workbench.engine.figures import gib
    from workbench.engine.runs.deletion import delete_run, size_on_disk

    found = list(dict.fromkeys(support.find(reference) for reference in runs))
    names = "\n".join(f"  {run.id}  {gib(size_on_disk(run), 2)}" for run in found)
    if not yes:
        if json or not is_asked():
            raise InputError("Deleting cannot be undone and there is nobody to ask.", "Say so: workbench delete --yes")
        print(f"This deletes for good:\n{names}")
        if not typer.confirm("Delete?"):
            print("Nothing was deleted.")
            raise typer.Exit(1)
    deleted: list[str] = []
    try:
        for run in found:
            delete_run(run)
            deleted.append(run.id)
    except RunError as error:
        if deleted:
            raise RunError(f"{error.message} Deleted before it: {', '.join(deleted)}.", error.hint) from None
        raise
    if json:
        console.print_json({"deleted": deleted})
    else:
        print("\n".join(f"{run_id} was deleted." for run_id in deleted))
