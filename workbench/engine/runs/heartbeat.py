"""A supervisor's sign of life: its status file, written also while it is busy with something long."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from workbench.engine.atomic import write_json
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.liveness import ProcessIdentity

HEARTBEAT_SECONDS = 1.0


def write_status(run: RunDirectory, phase: str, gpu: str | None, worker: ProcessIdentity | None) -> None:
    """Say that this process minds the run, what it does, and who works for it on which device."""
    own = ProcessIdentity.of(os.getpid())
    with suppress(OSError):  # a full disk: the run goes on, and looks stalled until there is room
        write_json(run.status, {
            "phase": phase,
            "supervisor": own.to_json() if own else None,
            "gpus": [gpu] if gpu else [],
            "worker": worker.to_json() if worker else None,
            "heartbeat": round(time.time(), 3),
            "heartbeat_monotonic": round(time.monotonic(), 3),
        }, durable=False)


@contextmanager
def meanwhile(beat: Callable[[], None]) -> Iterator[None]:
    """Give a sign of life every second from a thread, while what is inside takes its time: a checkpoint of a large
    model is read for minutes, and whoever does that has not stalled."""
    over = threading.Event()

    def beats() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            beat()

    thread = threading.Thread(target=beats, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
