"""Room kept for a run's last word: a full disk must not keep it from saying so."""

import errno
import os
from contextlib import suppress

from workbench.engine.runs.directory import RunDirectory

RESERVE_BYTES = 256 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room: a full disk, or a quota."""
    return error.errno in _FULL


def keep_reserve(run: RunDirectory) -> None:
    """Set room aside; nothing where there is none, or where it is kept already."""
    with suppress(OSError):
        if run.reserve.stat().st_size == RESERVE_BYTES:
            return
    try:
        descriptor = os.open(run.reserve, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            # Random bytes: a file system that compresses would keep no room for zeros.
            os.write(descriptor, os.urandom(RESERVE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        release_reserve(run)


def release_reserve(run: RunDirectory) -> bool:
    """Give the room free; whether there was any."""
    try:
        run.reserve.unlink()
    except OSError:
        return False
    return True


def has_room(run: RunDirectory, size: int = 64 * 1024) -> bool:
    """Whether so many bytes can be written into the run's directory; asked by writing them, as quotas and blocks kept
    for root can be seen in no other way."""
    trial = run.path / ".trial"
    try:
        descriptor = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        return not is_full(error)
    try:
        written = os.write(descriptor, os.urandom(size))
        os.fsync(descriptor)
        return written == size
    except OSError as error:
        return not is_full(error)
    finally:
        os.close(descriptor)
        with suppress(OSError):
            trial.unlink()
