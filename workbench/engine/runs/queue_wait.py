"""How a supervisor comes to its worker's device: in the queue's order, or at once for a run that does not queue."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from workbench.engine.errors import RunError
from workbench.engine.hardware.gpus import Gpu, list_gpus, visible
from workbench.engine.memory.terms import CUDA_CONTEXT
from workbench.engine.paths import runs_dir
from workbench.engine.runs.aftermath import write_event
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.postmortem import Ending
from workbench.engine.runs.queue import Claim, Device, Entry, Queue, Refusal, Wants, decide, devices_of, pick
from workbench.engine.runs.queue_file import alive, change_queue, damaged_files, holders, read_queue
from workbench.engine.runs.store import read_json, read_status

_GPUS_SECONDS = 5.0
"""How old the figures of the GPUs may be to say why a run waits: asking a driver can wake up its GPUs."""
_GPUS_SECONDS_TO_START = 0.5
"""How old they may be to start by."""
_REPEAT_SECONDS = 60.0
"""Figures alone are told anew no more often: what is free changes all the time."""
_MOST_IDLE = 20
"""Moments between two looks of one that waits far behind: five seconds."""

Journal = Callable[..., None]
"""Writes an event: its type, then its fields by name."""


def wants_of(run: RunDirectory) -> Wants:
    """What a run asks for, by its plan: the upper end of its own tuning's band, and what CUDA takes besides."""
    try:
        return _wants(run.plan, run.plan.stat().st_mtime_ns)
    except OSError:
        return Wants(run.id)


@lru_cache(maxsize=512)
def _wants(path: Path, changed: int) -> Wants:
    document = read_json(path)
    plan, hardware = _section(document, "plan"), _section(_section(document, "recipe"), "hardware")
    estimate = _section(_section(plan, "tunings"), str(plan.get("tuning")))
    high, gpus = estimate.get("high_bytes"), hardware.get("gpus")
    return Wants(path.parent.name, tuple(map(str, gpus)) if isinstance(gpus, list) else (),
                 on_cpu=hardware.get("use_cpu") is True, for_gpu=bool(plan.get("gpus")),
                 need_bytes=high + CUDA_CONTEXT if isinstance(high, int) else None)


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


class Turn:
    """One run's way to its device. Mutable: it remembers its entry, so that a lost queue costs nobody a place."""

    def __init__(self, run: RunDirectory, gpus: Callable[[], Sequence[Gpu]] = list_gpus,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._list_gpus, self._clock = gpus, clock
        self._entry = Entry(run.id, False, 0.0)
        self._devices: tuple[Device, ...] = ()
        self._read_at: float | None = None
        self._kind: tuple[object, ...] = ()
        self.place = 0
        """How many stand before it, by its last look."""
        self._hidden = False
        """Whether CUDA_VISIBLE_DEVICES hides all GPUs: it is to train on the CPU."""

    def look(self) -> Device | Refusal:
        """The device to start on, which is the run's from now on; else why it cannot start yet.

        Raises OSError where the queue cannot be written, RunError where somebody keeps its lock.
        """
        queue = read_queue()
        if queue.entry(self._run.id) is None:
            queue = self._join()
        self._entry = queue.entry(self._run.id) or self._entry
        self._look_at_gpus(_GPUS_SECONDS)
        queue = alive(queue)
        seen = self._decide(queue)
        if not isinstance(seen, Refusal) or seen.kind != self._kind:
            self._look_at_gpus(_GPUS_SECONDS_TO_START)
            seen = self._decide(queue)
        if isinstance(seen, Refusal):
            self._kind = seen.kind
            return seen
        return self._take(self._decide)

    def take(self) -> Device | Refusal:
        """The device of a run that does not queue, which is the run's from now on. Raises as `look`."""
        self._look_at_gpus(0.0)
        return self._take(lambda queue: pick(wants_of(self._run), self._devices, holders(queue, self._run.id)))

    def pick(self) -> Device | Refusal:
        """As `take`, where no claim can be written."""
        return pick(wants_of(self._run), self._devices, holders(alive(read_queue()), self._run.id))

    def leave(self) -> None:
        """Wait no longer, and have nothing. Raises as `look`."""
        change_queue(lambda queue: queue.without(self._run.id))

    def _join(self) -> Queue:
        """Enter at the end; after the file was lost, at the place by how long it has waited."""
        entry = self._entry
        if entry.since:
            return change_queue(lambda queue: queue.rejoined(entry))
        entry = replace(entry, since=round(time.time(), 3))
        return change_queue(lambda queue: queue.joined(entry))

    def _decide(self, queue: Queue) -> Device | Refusal:
        names = [entry.run for entry in queue.entries]
        if self._run.id not in names:
            return Refusal("not in the queue yet", ("lost",))
        waiting = [replace(wants_of(RunDirectory(runs_dir() / entry.run)), held=entry.held) for entry in queue.entries]
        place = self.place = names.index(self._run.id)
        own = replace(waiting[place], for_gpu=False) if self._hidden else waiting[place]
        return decide(own, waiting[:place], self._devices, holders(queue, self._run.id))

    def _take(self, choose: Callable[[Queue], Device | Refusal]) -> Device | Refusal:
        """Look and claim under one lock: nobody else can take the device in between."""
        found: Device | Refusal = Refusal("", ())

        def claim(queue: Queue) -> Queue:
            nonlocal found
            found = choose(queue)
            return queue if isinstance(found, Refusal) else \
                queue.claimed(Claim(self._run.id, (found.id,), os.getpid()))

        change_queue(claim)
        return found

    def _look_at_gpus(self, oldest: float) -> None:
        now = self._clock()
        if self._read_at is None or now - self._read_at > oldest:
            # Not under the queue's lock: a driver may take seconds to answer.
            listed = self._list_gpus()
            left = visible(listed)
            self._devices, self._read_at, self._hidden = devices_of(left), now, bool(listed) and not left


def find_device(run: RunDirectory, queued: bool, idle: Callable[[], bool]) -> Device | Ending | None:
    """The device for a run's worker, in the queue's order where it queues; its end where there is none that it may use.
    `idle` as for `wait_in_queue`; None where it said to wait no longer."""
    turn, journal = Turn(run), partial(write_event, run)
    if queued:
        return wait_in_queue(turn, journal, idle)
    found = take_device(turn, journal)
    return found if isinstance(found, Device) else ending_without_device(found)


def take_device(turn: Turn, journal: Journal) -> Device | Refusal:
    """The device of a run that does not queue; others see that it is taken, where that can be written."""
    try:
        return turn.take()
    except (OSError, RunError) as error:
        found = turn.pick()
        if isinstance(found, Device):
            _tell(journal, "alert", level="warning", message=f"It could not be written that this run has {found.words} "
                  f"({_why(error)}): a queued run may start there, too.")
        return found


def wait_in_queue(turn: Turn, journal: Journal, idle: Callable[[], bool],
                  clock: Callable[[], float] = time.monotonic) -> Device | None:
    """Wait until the run has a device, and say why while it waits, each reason once.

    `idle` does what else is to be done, a moment long, and says whether to go on waiting; None when it is not.
    """
    said: tuple[object, ...] | None = None
    said_at, words, damaged = 0.0, "", len(damaged_files())
    while True:
        try:
            found = turn.look()
        except (OSError, RunError) as error:
            found = Refusal(f"the queue cannot be written: {_why(error)}", ("unwritable", _why(error)))
        if len(files := damaged_files()) > damaged:
            damaged = len(files)
            _tell(journal, "alert", level="warning", message="The queue's file was damaged and set aside as "
                  f"{files[-1].name}: those who wait have joined again, by how long they have waited.")
        if isinstance(found, Device):
            if said is not None:
                _tell(journal, "waiting", reason=f"its turn has come: starting on {found.words}")
            return found
        now = clock()
        fresh = found.kind != said or (found.words != words and now - said_at >= _REPEAT_SECONDS)
        if fresh and _tell(journal, "waiting", reason=found.words):
            said, said_at, words = found.kind, now, found.words
        # The longer its way, the less often it looks: a hundred that wait would take two cores from those who train.
        if not all(idle() for _ in range(1 + min(turn.place, _MOST_IDLE))):
            # Where it cannot be written, the next who writes drops the entry: nobody attends to the run any more.
            with suppress(OSError, RunError):
                turn.leave()
            return None


def keep_device(run: RunDirectory) -> str | None:
    """The device of a worker that a new supervisor takes over: the run keeps it, also for the worker after this one."""
    gpus = read_status(run).get("gpus")
    if not isinstance(gpus, list) or not gpus:
        return None
    claim = Claim(run.id, (str(gpus[0]),), os.getpid())
    with suppress(OSError, RunError):
        change_queue(lambda queue: queue.claimed(claim))
    return claim.gpus[0]


def ending_without_device(refusal: Refusal) -> Ending:
    """The end of a run that does not queue and whose GPU is not there."""
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = "" if mask is None else f" CUDA_VISIBLE_DEVICES ({mask}) may hide it."
    return Ending("failed", "error", explanation=f"Not started: {refusal.words}.{seen}",
                  suggestion="See which GPUs there are: workbench doctor. Name one of them in hardware.gpus, or none.")


def _tell(journal: Journal, type_: str, **fields: Any) -> bool:
    """Whether it could be written; nobody stops waiting for a full disk."""
    try:
        journal(type_, **fields)
    except OSError:
        return False
    return True


def _why(error: OSError | RunError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else error.message
