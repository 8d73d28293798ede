"""Deleting a run: everything it wrote, and nothing else."""

import os
import shutil

from workbench.engine.errors import RunError
from workbench.engine.paths import runs_dir
from workbench.engine.runs.chain import chain_from, stage_of
from workbench.engine.runs.directory import RUN_ID, RunDirectory
from workbench.engine.runs.store import is_supervised


def delete_run(run: RunDirectory) -> None:
    """Remove a run with its checkpoints and model. Raises RunError for a live run or a directory that is no run's."""
    if not RUN_ID.fullmatch(run.id) or run.path.parent != runs_dir() or run.path.is_symlink():
        raise RunError(f"{run.path} is not the directory of a run, so it was left alone.")
    if is_supervised(run):
        raise RunError(f"{run.id} has not ended, so it cannot be deleted.", "Stop it first.")
    place = stage_of(run)
    for later in chain_from(run)[1:] if place is not None else ():
        if is_supervised(later):
            raise RunError(f"{run.id} cannot be deleted: {later.id}, a later stage of its pipeline, needs it and has "
                           "not ended.", "Stop that one first.")
    doomed = run.path.with_name(f".deleted-{run.id}")
    try:
        # Renamed first: a list never shows a run that is half gone.
        os.rename(run.path, doomed)
        shutil.rmtree(doomed)
    except FileNotFoundError:
        raise RunError(f"{run.id} was deleted already.") from None
    except OSError as error:
        raise RunError(f"{run.id} cannot be deleted: {error.strerror}.") from None
