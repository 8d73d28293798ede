"""Deleting a run: everything it wrote, and nothing else."""

import os
import shutil
from pathlib import Path
from typing import Any

from workbench.engine.errors import RunError
from workbench.engine.paths import runs_dir
from workbench.engine.runs.chain import chain_from
from workbench.engine.runs.directory import RUN_ID, RunDirectory, list_run_directories
from workbench.engine.runs.escalation import size_of
from workbench.engine.runs.liveness import acquire_lock, release_lock
from workbench.engine.runs.store import is_supervised, read_json
from workbench.engine.runs.worker_process import living_worker


def delete_run(run: RunDirectory) -> None:
    """Remove a run with its checkpoints and model. Raises RunError for a live run or a directory that is no run's."""
    if not RUN_ID.fullmatch(run.id) or run.path.parent != runs_dir() or run.path.is_symlink():
        raise RunError(f"{run.path} is not the directory of a run, so it was left alone.")
    if not run.path.is_dir():
        raise RunError(f"{run.id} was deleted already.")
    if is_supervised(run):
        raise RunError(f"{run.id} has not ended, so it cannot be deleted.", f"Stop it first: workbench stop {run.id}")
    if (worker := living_worker(run)) is not None:
        raise RunError(f"{run.id} has lost its supervisor, but its worker still trains (process {worker.pid}), so it "
                       "cannot be deleted.", f"Stop it first: workbench stop {run.id}")
    if need := _need_of(run):
        raise RunError(f"{run.id} cannot be deleted: {need}")
    for leftover in runs_dir().glob(".deleted-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of one that was interrupted
    doomed = run.path.with_name(f".deleted-{run.id}")
    lock: int | None = None
    try:
        # Nobody can resume it from here on. Not taken sooner: to ask who holds a lock gives one's own away.
        lock = acquire_lock(run.lock)
        if lock is None:
            raise RunError(f"{run.id} goes on again, so it cannot be deleted.")
        # Renamed first: a list never shows a run that is half gone.
        os.rename(run.path, doomed)
        shutil.rmtree(doomed)
    except FileNotFoundError:
        raise RunError(f"{run.id} was deleted already.") from None
    except OSError as error:
        raise RunError(f"{run.id} cannot be deleted: {error.strerror}.") from None
    finally:
        if lock is not None:
            release_lock(run.lock, lock)


def size_on_disk(run: RunDirectory) -> int:
    """Bytes of everything in the run's directory."""
    return sum(size_of(path) for path in run.path.rglob("*") if path.is_file() and not path.is_symlink())


def _need_of(run: RunDirectory) -> str | None:
    """Who needs what the run holds, in a sentence; None when nobody does.

    A run that has begun from another's adapter has all of it in its own; one on a fully trained model has not.
    """
    later = chain_from(run)[1:]
    for other in list_run_directories():
        found = read_json(other.plan).get("recipe")
        recipe: dict[str, Any] = found if isinstance(found, dict) else {}
        if other == run or not (other in later or _names(recipe, run)):
            continue
        if is_supervised(other):
            return f"{other.id} has not ended and needs it."
        stands_on_it = recipe.get("tuning") != "full" and other.model.is_dir() and _lies_in(recipe.get("model"), run)
        if stands_on_it and (run.model / "config.json").is_file():
            return f"the adapter of {other.id} stands on its model. Delete that run first."
    return None


def _names(recipe: dict[str, Any], run: RunDirectory) -> bool:
    rlhf = recipe.get("rlhf")
    rewards = rlhf.get("reward") if isinstance(rlhf, dict) else None
    named = [recipe.get("model"), *(rewards if isinstance(rewards, list) else [rewards])]
    return any(_lies_in(reference, run) for reference in named)


def _lies_in(reference: object, run: RunDirectory) -> bool:
    return isinstance(reference, str) and Path(reference).is_relative_to(run.path)
