"""The worker as its supervisor sees it: a child of its own, or one that a supervisor before it started."""

import subprocess
import time
from collections.abc import Mapping
from typing import Self

from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.liveness import ProcessIdentity, lock_holder
from workbench.engine.runs.store import read_status

_DYING_SECONDS = 10.0


class WorkerProcess:
    """One worker, from its start or adoption to its end. Mutable: it remembers how its process ended."""

    def __init__(self, identity: ProcessIdentity | None, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.identity = identity
        self._child = child

    @classmethod
    def start(cls, run: RunDirectory, command: list[str], environment: Mapping[str, str] | None = None) -> Self:
        """Start one whose output goes to the run's log. `environment`: all of it, default our own. Raises OSError."""
        with run.log.open("ab") as log:
            # A file, never a pipe: nobody's death may block training. A session of its own: its data-loader children
            # can be ended with it.
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=run.path,
                                     start_new_session=True, env=environment)
        return cls(ProcessIdentity.of(child.pid), child)

    @property
    def adopted(self) -> bool:
        """Whether another supervisor started it: how it ends can only be read in the journal."""
        return self._child is None

    @property
    def returncode(self) -> int | None:
        """Of a child that has ended, the exit code, or minus the number of the signal that ended it."""
        return self._child.returncode if self._child is not None else None

    def is_alive(self) -> bool:
        """Whether it still runs."""
        if self._child is not None:
            return self._child.poll() is None
        return self.identity is not None and self.identity.is_alive()

    def is_suspended(self) -> bool:
        """Whether it was halted by a signal."""
        return self.identity is not None and self.identity.is_suspended()

    def signal(self, number: int) -> None:
        """Send a signal to it and its children; nothing where it is gone."""
        if self.identity is not None:
            self.identity.signal(number, group=True)


def living_worker(run: RunDirectory) -> ProcessIdentity | None:
    """The run's worker, with or without a supervisor: who holds its lock, or whom the last supervisor noted down.

    One that was killed, and whose threads have not all let go of the lock, is waited for.
    """
    deadline = time.monotonic() + _DYING_SECONDS
    while (holder := lock_holder(run.worker_lock)) is not None and (found := ProcessIdentity.of(holder)) is not None:
        if found.is_alive() or time.monotonic() > deadline:
            return found
        time.sleep(0.02)
    noted = noted_worker(run)
    return noted if noted is not None and noted.is_alive() else None


def noted_worker(run: RunDirectory) -> ProcessIdentity | None:
    """Whom the last supervisor started, alive or not."""
    return ProcessIdentity.from_json(read_status(run).get("worker"))
