"""The command that shows the queue and changes its order."""

from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli_memory import Json
from workbench.engine.errors import InputError

if TYPE_CHECKING:
    from workbench.engine.runs.queue import Move
    from workbench.engine.runs.queue_rows import QueueRow

Queue = Annotated[bool, typer.Option("--queue", help="Start when a GPU is free for it, behind the runs that queue "
                                     "already.")]


def queue(run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run's id, or a unique part.")] = None,
          up: Annotated[bool, typer.Option("--up", help="One place earlier.")] = False,
          down: Annotated[bool, typer.Option("--down", help="One place later.")] = False,
          first: Annotated[bool, typer.Option("--first", help="Before all others.")] = False,
          last: Annotated[bool, typer.Option("--last", help="Behind all others.")] = False,
          hold: Annotated[bool, typer.Option("--hold", help="Keep its place, but do not start it.")] = False,
          release: Annotated[bool, typer.Option("--release", help="Let it start again when its turn comes.")] = False,
          json: Json = False) -> None:
    """Show the runs that wait for a GPU, and why; or change the place of one."""
    from workbench import console
    from workbench.engine.runs.queue_file import mend_queue
    from workbench.engine.runs.queue_rows import queue_rows

    chosen = [name for name, given in {"up": up, "down": down, "first": first, "last": last, "hold": hold,
                                       "release": release}.items() if given]
    if len(chosen) > 1:
        raise InputError(f"--{chosen[0]} and --{chosen[1]} do not go together.", "Give one of them at a time.")
    if chosen and run is None:
        raise InputError(f"--{chosen[0]} needs the run that it is about.", f"workbench queue RUN --{chosen[0]}")
    found = _change(run, chosen[0]) if run is not None and chosen else None
    mend_queue()
    rows = queue_rows()
    if run is not None and not chosen:
        rows = [_row_of(run, rows)]
    if json:
        console.print_json([row.to_json() for row in rows])
    elif found is not None:
        print(_place(found, rows))
    else:
        print(_table(rows))
    _tell_of_damage()


def _change(reference: str, what: str) -> str:
    """The id of the run that was moved, held or released. Raises InputError or RunError."""
    from workbench.cli_support import find
    from workbench.engine.runs.queue_file import hold_in_queue, move_in_queue

    run = find(reference)
    moves: dict[str, Move] = {"up": "up", "down": "down", "first": "first", "last": "last"}
    if what in moves:
        move_in_queue(run, moves[what])
    else:
        hold_in_queue(run, what == "hold")
    return run.id


def _row_of(reference: str, rows: "list[QueueRow]") -> "QueueRow":
    from workbench.cli_support import find

    run = find(reference)
    row = next((row for row in rows if row.run == run), None)
    if row is None:
        raise InputError(f"{run.id} is not in the queue.", "See who waits: workbench queue")
    return row


def _place(run_id: str, rows: "list[QueueRow]") -> str:
    row = next((row for row in rows if row.run.id == run_id), None)
    if row is None:
        return f"{run_id} has left the queue meanwhile."
    held = ", held" if row.held else ""
    return f"{run_id} is number {row.position} of {len(rows)} in the queue{held}."


def _table(rows: "list[QueueRow]") -> str:
    from workbench import console
    from workbench.engine.figures import age
    from workbench.engine.text import one_line

    if not rows:
        return "Nobody waits in the queue. Put a run there: workbench train RECIPE --queue"
    lines = [(str(row.position), row.run.id, row.state, age(row.since), one_line(row.reason, 90)) for row in rows]
    return console.table(("", "RUN", "STATE", "SINCE", "WAITS BECAUSE"), lines, right=(0,))


def _tell_of_damage() -> None:
    import sys

    from workbench.engine.runs.queue_file import damaged_files

    for path in damaged_files():
        print(f"note: {path} is a queue that was damaged and set aside; delete it when you have looked at it.",
              file=sys.stderr)
