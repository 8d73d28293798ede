"""The worker's sign of life, for who cannot see into it: written every second, also while it loads or computes."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

BEAT_SECONDS = 1.0


def start_beating(path: Path) -> None:
    """Write the monotonic clock to `path` every second, from a thread that ends with the process.

    It stops when the process is stopped, or when one call holds the interpreter: then nothing else goes on either.
    """
    threading.Thread(target=_beat, args=(path,), name="beat", daemon=True).start()


def _beat(path: Path) -> None:
    while True:
        # A full disk or a deleted run is no reason for the work to end.
        with suppress(OSError):
            _write(path)
        time.sleep(BEAT_SECONDS)


def _write(path: Path) -> None:
    """Always as many bytes, at the same place: a reader never sees half, and a full disk does not stop it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, f"{time.monotonic():20.3f}\n".encode(), 0)
    finally:
        os.close(descriptor)
