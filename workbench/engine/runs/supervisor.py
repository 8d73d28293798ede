"""The supervisor: one small process per run that outlives the screen, minds the worker and records how it ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench.engine.atomic import write_json
from workbench.engine.errors import WorkbenchError
from workbench.engine.runs.chain import stage_of
from workbench.engine.runs.control import ControlReader
from workbench.engine.runs.directory import RunDirectory, find_run
from workbench.engine.runs.inquest import Before, ending_of_worker
from workbench.engine.runs.journal import Journal, find_ending
from workbench.engine.runs.liveness import ProcessIdentity, acquire_lock
from workbench.engine.runs.postmortem import Ending
from workbench.engine.runs.store import read_json
from workbench.engine.runs.waiting import ending_without, outcome_of, previous_run, waiting_words

TICK_SECONDS = 0.25
HEARTBEAT_SECONDS = 1.0
# A worker answers `stop` after the step it is in. When nothing has moved for so long, it is told by stronger signals.
STOP_TO_TERM_SECONDS = 60.0
TERM_TO_KILL_SECONDS = 15.0


class Supervisor:
    """Runs one worker to its end. Everything it knows is on disk: killing it loses nothing but itself."""

    def __init__(self, run: RunDirectory, command: list[str] | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._command = command or [sys.executable, "-m", "workbench.worker", "train", run.id]
        self._clock = clock
        self._control = ControlReader(run)
        self._phase = "starting"
        self._worker_identity: ProcessIdentity | None = None
        self._stop_since: float | None = None
        self._progress = (0, 0)
        self._next_beat = 0.0

    def main(self) -> int:
        """Supervise to the end; 0 when the run finished or was stopped, 1 when it failed, 3 when not ours to run."""
        lock = acquire_lock(self._run.lock)
        if lock is None:
            print(f"{self._run.id} already has a supervisor", file=sys.stderr)
            return 3
        if find_ending(self._run.events) is not None:
            print(f"{self._run.id} has already ended", file=sys.stderr)
            return 3
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ask_to_stop())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._journal("queued")
        if rehearsal := read_json(self._run.plan).get("rehearsal"):
            self._journal("rehearsed", **rehearsal)
        outcome = self._wait_for_previous() or self._run_worker()
        self._phase = "ended"
        self._beat(force=True)
        return 1 if outcome == "failed" else 0

    def _wait_for_previous(self) -> str | None:
        """Of a pipeline's later stage: wait for the one before. None when the worker can start, else how it ended."""
        stage = stage_of(self._run)
        previous = previous_run(stage) if stage is not None else None
        if stage is None or previous is None:
            return None
        outcome = outcome_of(previous)
        if outcome is None:
            self._phase = "waiting"
            self._journal("waiting", reason=waiting_words(stage, previous), run=previous.id)
        while outcome is None and self._stop_since is None:
            self._obey()
            self._beat()
            time.sleep(TICK_SECONDS)
            outcome = outcome_of(previous)
        if self._stop_since is not None:
            ending = Ending("stopped", explanation="Stopped on request, before its turn came.",
                            suggestion=f"Start it and what comes after it again: workbench resume {self._run.id}")
        elif outcome == "finished":
            return None
        else:
            ending = ending_without(stage, previous, str(outcome), self._run.id)
        self._journal("ended", **ending.to_event())
        return ending.outcome

    def _run_worker(self) -> str:
        worker = self._start_worker()
        while worker.poll() is None:
            self._tick(worker)
            time.sleep(TICK_SECONDS)
        return self._record_end(worker.returncode)

    def _start_worker(self) -> subprocess.Popen[bytes]:
        self._before = Before.of(self._run)
        with self._run.log.open("ab") as log:
            worker = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                      start_new_session=True, cwd=self._run.path)
        self._worker_identity = ProcessIdentity.of(worker.pid)
        self._phase = "running"
        return worker

    def _obey(self) -> None:
        for command in self._control.read():
            if command.name == "stop":
                self._ask_to_stop()

    def _tick(self, worker: subprocess.Popen[bytes]) -> None:
        self._obey()
        self._escalate(worker)
        self._beat()

    def _ask_to_stop(self) -> None:
        if self._stop_since is None:
            self._stop_since = self._clock()
            self._phase = "stopping"

    def _escalate(self, worker: subprocess.Popen[bytes]) -> None:
        if self._stop_since is None:
            return
        progress = self._work_done()
        if progress != self._progress and self._phase == "stopping":
            # It is still at its last step, or saving: a large model takes minutes to write.
            self._progress, self._stop_since = progress, self._clock()
        waited = self._clock() - self._stop_since
        if waited > STOP_TO_TERM_SECONDS + TERM_TO_KILL_SECONDS:
            self._phase = "killing"
            self._signal(worker, signal.SIGKILL)
        elif waited > STOP_TO_TERM_SECONDS and self._phase != "terminating":
            self._phase = "terminating"
            self._signal(worker, signal.SIGTERM)

    def _work_done(self) -> tuple[int, int]:
        """Bytes in the journal, and bytes of what is being saved: they grow while the worker lives and works."""
        partial = [path for root in (self._run.path, self._run.checkpoints) for path in root.glob(".partial-*/**/*")]
        return _size(self._run.events), sum(map(_size, partial))

    @staticmethod
    def _signal(worker: subprocess.Popen[bytes], number: int) -> None:
        with suppress(ProcessLookupError):
            # The worker leads its own session: its data-loader children go with it.
            os.killpg(worker.pid, number)

    def _record_end(self, returncode: int) -> str:
        """The outcome; written here only when the worker could not write it itself."""
        written = find_ending(self._run.events)
        if written is not None:
            return str(written.get("outcome"))
        ending = ending_of_worker(self._run, self._before, returncode, stopping=self._stop_since is not None)
        self._journal("ended", **ending.to_event())
        return ending.outcome

    def _journal(self, type_: str, **fields: Any) -> None:
        with Journal(self._run.events) as journal:
            journal.append(type_, durable=True, **fields)

    def _beat(self, force: bool = False) -> None:
        now = self._clock()
        if now < self._next_beat and not force:
            return
        self._next_beat = now + HEARTBEAT_SECONDS
        own = ProcessIdentity.of(os.getpid())
        write_json(self._run.status, {
            "phase": self._phase,
            "supervisor": own.to_json() if own else None,
            "worker": self._worker_identity.to_json() if self._worker_identity else None,
            "heartbeat": round(time.time(), 3),
            "heartbeat_monotonic": round(time.monotonic(), 3),
        }, durable=False)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def main(arguments: list[str]) -> int:
    """`python -m workbench.engine.runs.supervisor RUN-ID`."""
    try:
        run = find_run(arguments[0])
        return Supervisor(run).main()
    except WorkbenchError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
