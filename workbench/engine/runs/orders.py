"""Stop and pause as somebody orders them: of a run with a supervisor, of one that lost it, and ordered twice."""

import signal
from dataclasses import dataclass

import psutil

from workbench.engine.errors import RunError
from workbench.engine.runs.chain import chain_from
from workbench.engine.runs.control import send_command
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.escalation import stop_deadline
from workbench.engine.runs.journal import Journal, find_rest
from workbench.engine.runs.launcher import start_supervisor
from workbench.engine.runs.liveness import ProcessIdentity, acquire_lock, lock_holder, release_lock
from workbench.engine.runs.store import read_status, summarise
from workbench.engine.runs.waiting import stopped_while_paused
from workbench.engine.runs.worker_process import living_worker, noted_worker
from workbench.engine.text import one_line

STOPPING = frozenset({"stopping", "terminating", "killing"})
"""Phases in the status file of a run that was asked to stop."""


@dataclass(frozen=True)
class Answer:
    """What comes of an order: sentences, and of a stop the seconds without progress after which it is enforced."""

    words: tuple[str, ...]
    deadline: float = 0.0


def stop_run(run: RunDirectory) -> Answer:
    """Order a run to stop after its current step. A worker without supervisor gets one, which ends it if need be; a
    paused run is stopped from now on. Ordered again it changes nothing. Raises RunError for a run that has ended."""
    rest = find_rest(run.events)
    if rest is not None and rest["type"] == "paused":
        return _stop_paused(run)
    if rest is not None and rest.get("outcome") == "stopped":
        return Answer((f"{run.id} is stopped already.",))
    taken_over = _with_supervisor(run, "stop")
    waits = summarise(run).state == "waiting"
    how, deadline = ("it does not start any more", 0.0) if waits else stop_deadline(run)
    if _phase(run) in STOPPING:
        return Answer((*taken_over, f"{run.id} was asked to stop already; {how}."), deadline)
    send_command(run, "stop")
    later = ", ".join(one.id for one in chain_from(run)[1:])
    words = (f"{run.id} was asked to stop; {how}.", *((f"Later stages will not start: {later}.",) if later else ()))
    return Answer((*taken_over, *words), deadline)


def pause_run(run: RunDirectory) -> Answer:
    """Order a run to save after its current step and to leave its GPU until it is resumed. Ordered again it changes
    nothing. Raises RunError for a run that has ended or is being stopped."""
    go_on = f"Go on: workbench resume {run.id}"
    rest = find_rest(run.events)
    if rest is not None and rest["type"] == "paused":
        return Answer((f"{run.id} is paused already.", go_on))
    taken_over = _with_supervisor(run, "pause")
    if _phase(run) in STOPPING:
        raise RunError(f"{run.id} is being stopped, so it cannot pause.",
                       f"What it saves can be gone on with: workbench resume {run.id}")
    if _phase(run) == "pausing":
        return Answer((*taken_over, f"{run.id} was asked to pause already.", go_on))
    waits = summarise(run).state == "waiting"
    send_command(run, "pause")
    how = "it does not start until it is resumed" if waits else "it saves after its current step and leaves its GPU"
    return Answer((*taken_over, f"{run.id} was asked to pause; {how}.", go_on))


def _phase(run: RunDirectory) -> str:
    """What its supervisor is doing; empty without one."""
    return str(read_status(run).get("phase", "")) if lock_holder(run.lock) is not None else ""


def _stop_paused(run: RunDirectory) -> Answer:
    lock = acquire_lock(run.lock)
    if lock is None:
        raise RunError(f"{run.id} goes on again just now.", f"Stop it then: workbench stop {run.id}")
    try:
        with Journal(run.events) as journal:
            journal.append("ended", durable=True, **stopped_while_paused().to_event())
    except OSError as error:
        raise RunError(f"{run.id} cannot be stopped: {error.strerror}.") from None
    finally:
        release_lock(run.lock, lock)
    return Answer((f"{run.id} was paused; now it is stopped.",))


def _with_supervisor(run: RunDirectory, order: str) -> tuple[str, ...]:
    """Give a worker that lost its supervisor another one; what was done, in sentences. Raises RunError where there is
    nobody to obey: a process that has only the worker's number is left alone."""
    rest = find_rest(run.events)
    supervised = lock_holder(run.lock) is not None
    # One that failed may be started again while its supervisor is there.
    if supervised and (rest is None or rest.get("outcome") == "failed"):
        return _awake(run)
    if rest is not None:
        raise RunError(f"{run.id} is not running, so it cannot {order}.", f"See its end: workbench show {run.id}")
    if living_worker(run) is not None:
        start_supervisor(run)
        return (f"{run.id} had lost its supervisor; another one has taken over.",)
    stranger = _stranger(run)
    why = f" {stranger}" if stranger else ""
    raise RunError(f"{run.id} is not running, so it cannot {order}: its supervisor died, and its worker is gone.{why}",
                   f"Go on with it: workbench resume {run.id}")


def _awake(run: RunDirectory) -> tuple[str, ...]:
    """Wake a supervisor that was halted: it would see no deadline pass. What was done, in sentences."""
    supervisor = ProcessIdentity.from_json(read_status(run).get("supervisor"))
    if supervisor is None or not supervisor.is_suspended() or not supervisor.signal(signal.SIGCONT):
        return ()
    return (f"Its supervisor, process {supervisor.pid}, was halted by a signal; it goes on now.",)


def _stranger(run: RunDirectory) -> str:
    """A sentence on the process that has the number of the run's worker now; empty where there is none."""
    noted = noted_worker(run)
    if noted is None or ProcessIdentity.of(noted.pid) is None or noted.is_alive():
        return ""
    try:
        name = one_line(psutil.Process(noted.pid).name(), 40)
    except psutil.Error:
        return ""
    return f"Process {noted.pid} is another program now ({name}), so it was left alone."
