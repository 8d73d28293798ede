"""The supervisor: one small process per run that outlives the screen, minds the worker and records how it ended."""

import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from workbench.engine.errors import WorkbenchError
from workbench.engine.runs import aftermath
from workbench.engine.runs.aftermath import write_event
from workbench.engine.runs.attempts import Attempts, Failure, NoRestart, decide, hung_minutes
from workbench.engine.runs.control import Command, ControlReader
from workbench.engine.runs.directory import RunDirectory, find_run
from workbench.engine.runs.escalation import Escalation, Silence, is_responsive, size_of, stop_patience, work_done
from workbench.engine.runs.going_on import ResumeRequest, clear_desk, has_begun, replace_recipe, step_of, times_resumed
from workbench.engine.runs.heartbeat import HEARTBEAT_SECONDS, meanwhile, write_status
from workbench.engine.runs.inquest import Before
from workbench.engine.runs.journal import Event, JournalReader, find_rest
from workbench.engine.runs.liveness import NOT_OURS, acquire_lock
from workbench.engine.runs.postmortem import Ending
from workbench.engine.runs.queue import CPU, Device, environment_of
from workbench.engine.runs.queue_wait import find_device, keep_device
from workbench.engine.runs.reserve import cut_log, has_room, is_full, keep_reserve, release_reserve
from workbench.engine.runs.store import beat_age, read_json
from workbench.engine.runs.waiting import stopped_before_its_turn, stopped_while_paused, wait_for_previous
from workbench.engine.runs.worker_process import WorkerProcess, living_worker
from workbench.engine.streams import redact_streams

TICK_SECONDS = 0.25


class Supervisor:
    """Runs one worker to its end. Everything it knows is on disk: killing it loses nothing but itself."""

    def __init__(self, run: RunDirectory, command: list[str] | None = None,
                 clock: Callable[[], float] = time.monotonic, token: str | None = None, queued: bool = False) -> None:
        self._run = run
        self._command = command or [sys.executable, "-m", "workbench.worker", "train", run.id]
        self._clock = clock
        self._token = token
        self._queued = queued
        self._gpu: str | None = None
        self._control = ControlReader(run)
        self._phase = "starting"
        self._escalation = Escalation(clock)
        self._pausing = False
        self._worker: WorkerProcess | None = None
        self._silence = Silence(clock)
        self._before = Before.of(run)
        self._begin_from: str | None = None
        self._recipe: dict[str, Any] = {}
        self._next_beat = 0.0

    def main(self) -> int:
        """Supervise to the end; 0 when the run finished, was stopped or paused, 1 when it failed, 3 when not ours."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._escalation.ask(at_once=True))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        lock = acquire_lock(self._run.lock)
        if refusal := self._take_charge() if lock is not None else f"{self._run.id} already has a supervisor":
            print(refusal, file=sys.stderr)
            return NOT_OURS
        keep_reserve(self._run)
        outcome = self._supervise()
        release_reserve(self._run)
        self._phase = "paused" if outcome == "paused" else "ended"
        self._beat(force=True)
        return 1 if outcome == "failed" else 0

    def _take_charge(self) -> str | None:
        """Begin, go on or take over, as the directory says; a sentence where it is not ours to do."""
        run = self._run
        worker = living_worker(run)
        self._recipe = read_json(run.plan).get("recipe") or {}
        if self._token is not None:
            if worker is not None:
                return f"{run.id} still has a worker, process {worker.pid}"
            request = ResumeRequest.read(run, self._token)
            if request is None or request.journal_size not in (None, size_of(run.events)):
                return f"{run.id} went on meanwhile"
            self._go_on(request)
        elif find_rest(run.events) is not None:
            return f"{run.id} has already ended"
        elif worker is not None or has_begun(run):
            # A worker that died before it was taken over is one that died without a word.
            self._worker = WorkerProcess(worker)
            self._gpu = keep_device(run)
            self._phase = "running"
            self._beat(force=True)
            with suppress(OSError):  # a full disk: it is minded all the same
                write_event(run, "alert", level="info", message="Its supervisor was gone; another one minds it again.")
        else:
            self._beat(force=True)
            write_event(run, "queued")
            if rehearsal := read_json(run.plan).get("rehearsal"):
                write_event(run, "rehearsed", **rehearsal)
        return None

    def _go_on(self, request: ResumeRequest) -> None:
        """Do as was asked. The request goes last: whoever waits for that finds a run that goes on."""
        assert self._token is not None
        self._beat(force=True)  # what the supervisor before left behind must not look like a stall
        if not has_room(self._run):  # before anything is moved that the journal could then not tell of
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._run.path))
        if request.recipe is not None:
            replace_recipe(self._run, request.recipe, request.plan)
            self._recipe = request.recipe
        self._control.set_aside()
        aside = clear_desk(self._run, request.step, from_beginning=request.checkpoint is None)
        write_event(self._run, "resumed", step=request.step, checkpoint=request.checkpoint, changes=request.changes,
                    attempt=times_resumed(self._run) + 1)
        for message in (*request.notes, *aftermath.words_of_resumption(request.changes, aside)):
            write_event(self._run, "alert", level="info", message=message, step=request.step)
        self._begin_from = request.checkpoint
        for done in self._run.path.glob("resume-*.json"):  # those, too, whose supervisor died over them
            done.unlink(missing_ok=True)

    def _supervise(self) -> str:
        """Wait, then work, to the run's rest. What goes wrong here is an end like any other, and is said."""
        try:
            return self._wait_for_turn() or self._run_workers()
        except Exception as error:
            if self._worker is not None and self._worker.is_alive():
                raise  # the run has not ended: another supervisor can take it over
            with suppress(OSError):  # the log is on the disk that may be full
                traceback.print_exc()
            rest = find_rest(self._run.events)
            return self._end(aftermath.ending_of_supervisor(self._run, error)) if rest is None \
                else str(rest.get("outcome", "paused"))

    def _wait_for_turn(self) -> str | None:
        """Wait for the stage before, then for a device. None when a worker can start, or runs already; else how the run
        ended while it waited."""
        if self._worker is not None:
            return None
        ending = wait_for_previous(self._run, self._idle)
        if ending is None and self._goes_on:
            found = find_device(self._run, self._queued, self._idle)
            if isinstance(found, Device):
                self._gpu = found.id
                return None
            ending = found
        if ending is not None:
            return self._end(ending)
        if not self._escalation.asked:
            self._conclude("paused", step=step_of(self._begin_from or "") or 0, checkpoint=self._begin_from)
            return "paused"
        return self._end(stopped_before_its_turn(self._run))

    def _idle(self) -> bool:
        """What is to be done while it waits, a moment long; whether to go on waiting."""
        self._phase = "waiting"
        self._obey(self._control.read())
        self._beat()
        time.sleep(TICK_SECONDS)
        return self._goes_on

    @property
    def _goes_on(self) -> bool:
        """Whether nobody asked it to stop or to pause."""
        return not (self._escalation.asked or self._pausing)

    def _run_workers(self) -> str:
        """Run workers until the run comes to rest; how it did."""
        worker = self._worker
        while True:
            try:
                worker = worker or self._start_worker()
            except OSError as error:
                return self._end(Ending("failed", "disk" if is_full(error) else "error",
                                        f"The worker could not be started: {error.strerror}."))
            while worker.is_alive():
                with suppress(OSError):  # what cannot be read now can be later, and nobody else minds the worker
                    self._tick(worker)
                time.sleep(TICK_SECONDS)
            self._obey(self._control.read())  # a stop that came while it died
            with meanwhile(self._write_status):
                outcome = self._after(worker)
            if outcome is not None:
                return outcome
            worker = None

    def _start_worker(self) -> WorkerProcess:
        self._before = Before.of(self._run)
        source = ["--from", self._begin_from] if self._begin_from else []
        self._worker = WorkerProcess.start(self._run, [*self._command, *source],
                                           {**os.environ, **environment_of(self._gpu or CPU)})
        self._silence = Silence(self._clock)
        self._phase = "running"
        self._beat(force=True)
        return self._worker

    def _tick(self, worker: WorkerProcess) -> None:
        self._obey(self._control.read())
        if self._escalation.asked:
            for number in self._escalation.due(work_done(self._run), is_responsive(self._run, worker.is_suspended()),
                                               stop_patience(self._run)):
                worker.signal(number)
            self._phase = self._escalation.phase
        elif self._pausing and worker.is_suspended():
            worker.signal(signal.SIGCONT)
        elif not self._pausing and (order := self._silence.due(hung_minutes(self._recipe), beat_age(self._run))):
            worker.signal(order)
        self._beat()

    def _obey(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if command.name == "stop":
                self._escalation.ask()
            elif command.name == "pause" and not self._escalation.asked:
                self._pausing = True
                self._phase = "pausing"

    def _after(self, worker: WorkerProcess) -> str | None:
        """What becomes of the run whose worker is gone: None where it goes on, else how it ended."""
        with suppress(OSError):
            self._run.beat.unlink(missing_ok=True)
        rest = find_rest(self._run.events)
        if rest is not None and rest["type"] == "paused":
            return self._end(stopped_while_paused()) if self._escalation.asked else "paused"
        ending = rest or aftermath.ending_of(self._run, self._before, worker.returncode, self._escalation.asked,
                                   hung_minutes(self._recipe) if self._silence.ended else None).to_event()
        decision = self._go_on_after(ending, worker)
        if decision is None:
            return None
        if rest is None:
            self._conclude("ended", **{**ending, "explanation": f"{ending['explanation']} {decision.why}".rstrip()})
        elif decision.why:
            self._conclude("alert", level="warning", message=decision.why)
        return str(ending["outcome"])

    def _go_on_after(self, ending: Event, worker: WorkerProcess) -> NoRestart | None:
        """Prepare another worker where the recipe allows one: None, else why there is none."""
        if ending["outcome"] != "failed" or not self._goes_on:
            return NoRestart()
        of_the_host = (worker.returncode or 0) < 0 or ending.get("symptom") == "host-memory"
        decision = decide(Failure(ending.get("cause"), of_the_host), self._recipe,
                          Attempts.read(JournalReader(self._run.events).read()))
        if isinstance(decision, NoRestart):
            return decision
        self._obey(self._control.set_aside())
        if not self._goes_on:
            return NoRestart()
        try:
            self._begin_from = aftermath.prepare_restart(self._run, decision, ending, self._recipe)
        except OSError as error:
            return NoRestart(f"It could not be started again: {error.strerror}.")
        self._recipe = read_json(self._run.plan).get("recipe") or {}
        return None

    def _end(self, ending: Ending) -> str:
        self._conclude("ended", **ending.to_event())
        return ending.outcome

    def _conclude(self, type_: str, **fields: Any) -> None:
        def wait() -> None:
            self._beat()
            time.sleep(TICK_SECONDS)

        aftermath.last_word(self._run, type_, fields, wait)

    def _beat(self, force: bool = False) -> None:
        now = self._clock()
        if now < self._next_beat and not force:
            return
        self._next_beat = now + HEARTBEAT_SECONDS
        if cut_log(self._run):
            self._before = replace(self._before, log_bytes=0)
        self._write_status()

    def _write_status(self) -> None:
        write_status(self._run, self._phase, self._gpu, self._worker.identity if self._worker else None)


def main(arguments: list[str]) -> int:
    """`python -m workbench.engine.runs.supervisor RUN-ID [--resume TOKEN] [--queue]`."""
    redact_streams()
    try:
        run = find_run(arguments[0])
        token = arguments[arguments.index("--resume") + 1] if "--resume" in arguments else None
        return Supervisor(run, token=token, queued="--queue" in arguments).main()
    except WorkbenchError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{error.strerror}: {error.filename or 'a file of the run'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
