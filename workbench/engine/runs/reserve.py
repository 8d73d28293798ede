"""Room on the disk: some kept for a run's last word, none taken by a log that never ends."""

import errno
import os
from contextlib import suppress

from workbench.engine.atomic import write_atomic
from workbench.engine.runs.directory import RunDirectory

RESERVE_BYTES = 256 * 1024
LOG_BYTES = 256 << 20
"""A worker's log that grows beyond this is cut."""
_KEPT_LOG_BYTES = 1 << 20
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


def cut_log(run: RunDirectory, limit: int = LOG_BYTES) -> bool:
    """Empty a log that has grown beyond `limit` bytes; its last megabyte is kept beside it (`worker-before.log`).

    Whether it was cut. Its writer appends, and goes on at the new end.
    """
    try:
        with run.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            if size <= limit:
                return False
            log.seek(-min(size, _KEPT_LOG_BYTES), os.SEEK_END)
            kept = log.read(_KEPT_LOG_BYTES)
        os.truncate(run.log, 0)
        write_atomic(run.path / "worker-before.log", kept, durable=False)
    except OSError:
        return False
    return True
