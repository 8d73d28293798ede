"""The worker's sign of life, for who cannot see into it: written every second, also while it loads or computes."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BEAT_SECONDS = 1.0


@contextmanager
def beating(path: Path) -> Iterator[None]:
    """Write the monotonic clock to `path` every second, from a thread of its own.

    It stops where the process is stopped, or one call holds the interpreter: then nothing else goes on either.
    """
    over = threading.Event()
    thread = threading.Thread(target=_beat, args=(path, over), name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _beat(path: Path, over: threading.Event) -> None:
    while True:
        # A full disk or a deleted run is no reason for the work to end.
        with suppress(OSError):
            _write(path)
        if over.wait(BEAT_SECONDS):
            return


def _write(path: Path) -> None:
    """Always as many bytes, at the same place: a reader never sees half, and a full disk does not stop it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, f"{time.monotonic():20.3f}\n".encode(), 0)
    finally:
        os.close(descriptor)
