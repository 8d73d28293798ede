"""Gathering what there is to know of a worker's end: the kernel's counters, its log, the checkpoints that verify."""

import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.engine.errors import WorkbenchError
from workbench.engine.figures import gib, number
from workbench.engine.hardware.cgroup import MemoryGroup, machine_kills, memory_group
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.going_on import newest_checkpoint
from workbench.engine.runs.journal import decode_number, read_tail
from workbench.engine.runs.postmortem import Ending, Killer, Raised, explain_chain, explain_exit, explain_hang

if TYPE_CHECKING:
    from workbench.engine.recipe import Recipe

_LOG_BYTES = 64 << 10
_LONGEST_CHAIN = 8
_TOLD = ("train/loss", "train/grad_norm", "train/learning_rate")


@dataclass(frozen=True, slots=True)
class Before:
    """How things stood before a worker started: what the kernel had killed, and where the worker's log begins."""

    group: MemoryGroup
    machine_kills: int | None
    log_bytes: int

    @classmethod
    def of(cls, run: RunDirectory) -> "Before":
        """Now. A worker is in the group of who starts it."""
        return cls(memory_group(), machine_kills(), run.log.stat().st_size if run.log.exists() else 0)


def ending_of_worker(run: RunDirectory, before: Before, returncode: int, stopping: bool) -> Ending:
    """The ending of a worker that died without a word. Reads the newest checkpoint to its end."""
    killer, limit = who_killed(before, memory_group(), machine_kills())
    return explain_exit(returncode, _log_since(run.log, before.log_bytes), stopping, killer=killer, memory_limit=limit,
                        recipe=_recipe_of(run), checkpoint=newest_checkpoint(run)[0])


def ending_of_hang(run: RunDirectory, before: Before, minutes: float, fix: str) -> Ending:
    """The ending of a worker that was ended because it gave no sign of life for so long."""
    return explain_hang(minutes, _log_since(run.log, before.log_bytes), fix, newest_checkpoint(run)[0])


def ending_of_exception(run: RunDirectory, error: BaseException) -> Ending:
    """The ending of a worker that raised, for the worker itself to write."""
    text = "".join(traceback.format_exception(error))
    return explain_chain(chain_of_causes(error), text, _recipe_of(run), newest_checkpoint(run)[0], _last_steps(run))


def chain_of_causes(error: BaseException) -> tuple[Raised, ...]:
    """The exception and those it came from, outermost first: as a traceback shows them."""
    chain: list[Raised] = []
    current: BaseException | None = error
    while current is not None and len(chain) < _LONGEST_CHAIN:
        ours = isinstance(current, WorkbenchError)
        chain.append(Raised(
            type(current).__name__, current.message if isinstance(current, WorkbenchError) else str(current), ours,
            current.hint if isinstance(current, WorkbenchError) else None,
            current.errno if isinstance(current, OSError) else None))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return tuple(chain)


def who_killed(before: Before, group: MemoryGroup, machine: int | None) -> tuple[Killer, str]:
    """(who sent a SIGKILL, the limit it enforced in words), by the kernel's counters from before and after.

    The group's own counter decides. Where it cannot be read the machine's does, and a kill anywhere on it counts.
    """
    limit = ""
    if group.limit_bytes:
        hit = (group.limit_hits or 0) > (before.group.limit_hits or 0)
        limit = f"{'' if hit else 'the end of the memory here, or '}the memory limit of its control group, " \
                f"{gib(group.limit_bytes)}"
    if before.group.kills is not None and group.kills is not None:
        return ("kernel", limit) if group.kills > before.group.kills else ("somebody", "")
    if before.machine_kills is not None and machine is not None:
        return ("kernel", "") if machine > before.machine_kills else ("somebody", "")
    return "unknown", ""


def _last_steps(run: RunDirectory) -> list[str]:
    """The last logged steps in words: `step 3: train/loss NaN, train/grad_norm 13.4`."""
    return [f"step {event.get('step')}: " + ", ".join(
        f"{name} {number(value)}" for name in _TOLD if (value := decode_number(metrics.get(name))) is not None)
        for event in read_tail(run.events)
        if event.get("type") == "step" and isinstance(metrics := event.get("metrics"), dict)]


def _recipe_of(run: RunDirectory) -> "Recipe | None":
    # Here: a supervisor lives for days, and only one whose worker died reads a recipe.
    from workbench.engine.recipe_file import load_recipe

    try:
        return load_recipe(run.recipe)
    except WorkbenchError:
        return None


def _log_since(path: Path, start: int) -> str:
    """The end of the log, from where this worker began to write."""
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _LOG_BYTES, start))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
