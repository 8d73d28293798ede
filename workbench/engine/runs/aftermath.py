"""After a worker is gone: what its end was, what is prepared for another one, and the last word on a full disk."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from workbench.engine.runs.attempts import Restart
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.going_on import clear_desk, newest_checkpoint, replace_recipe, step_of
from workbench.engine.runs.inquest import Before, ending_of_hang, ending_of_worker
from workbench.engine.runs.journal import Event, Journal
from workbench.engine.runs.postmortem import Ending
from workbench.engine.runs.reserve import has_room, is_full, release_reserve
from workbench.engine.text import one_line

# How long a last word waits for room on a full disk, after the room kept for it was not enough.
FULL_DISK_SECONDS = 60.0


def write_event(run: RunDirectory, type_: str, /, **fields: Any) -> None:
    """Write a supervisor's event. Raises OSError."""
    with Journal(run.events) as journal:
        journal.append(type_, durable=True, **fields)


def last_word(run: RunDirectory, type_: str, fields: Mapping[str, Any], wait: Callable[[], Any],
              clock: Callable[[], float] = time.monotonic) -> None:
    """Write an event for which a full disk is made to have room: first from what was kept for it, then by waiting."""
    deadline = clock() + FULL_DISK_SECONDS
    while True:
        try:
            return write_event(run, type_, **fields)
        except OSError as error:
            if release_reserve(run):
                continue
            if not is_full(error) or clock() > deadline:
                with suppress(OSError):
                    print(f"cannot write how the run ended: {error}", file=sys.stderr)
                return None
        wait()


def ending_of(run: RunDirectory, before: Before, returncode: int | None, stopping: bool,
              hung_minutes: float | None) -> Ending:
    """The ending of a worker that wrote none. `before`: how things stood when it started. `returncode`: None where it
    was another supervisor's child. `hung_minutes`: how long it gave no sign of life, where it was ended for that."""
    go_on = f"workbench resume {run.id}"
    if hung_minutes is not None:
        return ending_of_hang(run, before, hung_minutes, f"Go on from its last checkpoint: {go_on}")
    if returncode is None and stopping:
        return Ending("stopped", explanation="Stopped: the worker was ended by a signal before it could save.")
    if returncode is None:
        return Ending("failed", "killed", "The worker died without a word. Its first supervisor had died before it, so "
                      "nothing says how.", f"Go on from its last checkpoint: {go_on}")
    ending = ending_of_worker(run, before, returncode, stopping)
    if ending.cause == "error" and not has_room(run):
        return Ending("failed", "disk", f"The disk is full: {run.path}", f"Free some space, then go on: {go_on}")
    return ending


def ending_of_supervisor(run: RunDirectory, error: Exception) -> Ending:
    """The ending of a run whose supervisor met what it could not go on after, while no worker was there."""
    go_on = f"workbench resume {run.id}"
    if isinstance(error, OSError) and is_full(error):
        return Ending("failed", "disk", f"The disk is full: {error.filename or run.path}",
                      f"Free some space, then go on: {go_on}")
    words = f"{error.strerror}: {error.filename or run.path}" if isinstance(error, OSError) else \
        one_line(f"{type(error).__name__}: {error}", 200)
    return Ending("failed", "error", f"Its supervisor could not go on. {words}",
                  f"See {run.supervisor_log}, then go on: {go_on}")


def prepare_restart(run: RunDirectory, decision: Restart, ending: Event, recipe: Mapping[str, Any]) -> str | None:
    """Make the directory ready for another worker and say so in the journal; the checkpoint it begins from, None: the
    beginning. Raises OSError (a full disk)."""
    checkpoint, refused = newest_checkpoint(run)
    step = 0 if checkpoint is None else step_of(checkpoint) or 0
    if decision.changes:
        replace_recipe(run, changed(recipe, decision.changes), None)
    clear_desk(run, step, from_beginning=checkpoint is None)
    write_event(run, "restarted", attempt=decision.attempt, of=decision.of, cause=ending.get("cause"),
                explanation=ending.get("explanation"), step=step, checkpoint=checkpoint, changes=decision.changes)
    where = "its beginning" if checkpoint is None else f"step {step}"
    for message in (*refused, f"{ending.get('explanation')} It goes on from {where}: {decision.words}."):
        write_event(run, "alert", level="warning", message=message, step=step)
    return checkpoint


def words_of_resumption(changes: Mapping[str, Any], aside: Sequence[int]) -> list[str]:
    """What a resumed run says of itself: which settings changed, which checkpoints it left."""
    words = []
    if changes:
        words.append(f"Goes on with {', '.join(f'{key} = {value}' for key, value in changes.items())}.")
    if aside:
        steps = ", ".join(map(str, reversed(aside)))
        words.append(f"Set aside, as training goes on from before them: the checkpoints of {steps}.")
    return words


def changed(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as plain data with dotted settings changed."""
    result = dict(recipe)
    for key, value in changes.items():
        name, _, rest = key.partition(".")
        result[name] = changed(result.get(name) or {}, {rest: value}) if rest else value
    return result
