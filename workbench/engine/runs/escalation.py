"""How a worker is made to stop: asked, then told, then ended, each after a stated time in which nothing moved."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from workbench.engine.figures import duration
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import decode_number, read_tail
from workbench.engine.runs.postmortem import WHERE_ARE_YOU
from workbench.engine.runs.state import STALL_SECONDS
from workbench.engine.runs.store import beat_age
from workbench.engine.runs.worker_process import living_worker

# A worker answers `stop` after the step it is in. When nothing has moved for so long, it is told by stronger signals.
STOP_TO_TERM_SECONDS = 60.0
TERM_TO_KILL_SECONDS = 15.0
# A large model takes minutes to save after a SIGTERM; a worker that only pretends to be busy must end all the same.
LONGEST_SAVE_SECONDS = 1800.0

# What a worker says while it trains.
_OF_A_STEP = frozenset({"step", "eval", "memory", "sample", "checkpoint", "command", "alert", "guarded"})

StopPhase = Literal["", "stopping", "terminating", "killing"]


class Escalation:
    """Decides which signals a worker gets, by an injected clock. Mutable: it remembers what was done and when."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.phase: StopPhase = ""
        self._since = self._term_at = 0.0
        self._at_once = False
        self._progress: Any = None
        self._grace = 0.0

    @property
    def asked(self) -> bool:
        """Whether the worker shall stop."""
        return self.phase != ""

    def ask(self, at_once: bool = False) -> None:
        """The worker shall stop; `at_once`: by SIGTERM, since no command reached it. To ask again changes nothing."""
        if not self.asked:
            self.phase, self._since = "stopping", self._clock()
        self._at_once = self._at_once or at_once

    def due(self, progress: Any, responsive: bool, patience: float | None = None) -> tuple[signal.Signals, ...]:
        """The signals to send now. `progress` is anything that changes while the worker gets on; one that is not
        `responsive` is not waited for; `patience` are the seconds that a step may take."""
        if not self.asked:
            return ()
        now = self._clock()
        patience = STOP_TO_TERM_SECONDS if patience is None else patience
        if progress != self._progress:
            # It is still at its last step, or saving: a large model takes minutes to write.
            self._progress = progress
            if self.phase == "stopping" or now - self._term_at < LONGEST_SAVE_SECONDS:
                self._since = now
        waited = now - self._since
        if self.phase == "stopping" and (self._at_once or not responsive or waited > patience):
            self._grace = patience if self._at_once and responsive else TERM_TO_KILL_SECONDS
            self.phase, self._since, self._term_at = "terminating", now, now
            # One that was halted would never see the first without the second.
            return signal.SIGTERM, signal.SIGCONT
        if self.phase == "terminating" and waited > self._grace:
            self.phase = "killing"
        return (signal.SIGKILL,) if self.phase == "killing" else ()


class Silence:
    """Decides which signals a worker gets that gives no sign of life. Mutable: it remembers what was done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """When the worker starts, or is taken over."""
        self._clock = clock
        self._since = clock()
        self._asked = False
        self.ended = False
        """Whether it was ended for its silence."""

    def due(self, minutes: float | None, silent: float | None) -> signal.Signals | None:
        """The signal to send now: first one that asks it where it is, which goes into its log, then SIGKILL.

        `minutes` is how long it may be silent, None for ever; `silent` the seconds that it is, None where it has given
        no sign yet.
        """
        if minutes is None or (self._clock() - self._since if silent is None else silent) <= minutes * 60:
            self._asked = self.ended = False
            return None
        self.ended, self._asked = self._asked, True
        return signal.SIGKILL if self.ended else WHERE_ARE_YOU


def stop_patience(run: RunDirectory) -> float:
    """Seconds without a sign of progress after which a worker that was asked to stop is told by SIGTERM: 60, and more
    where its steps take longer, since a step that is broken off is lost."""
    longest, before = 0.0, None
    for event in read_tail(run.events):
        # Loading takes longer than any step, and is left at once.
        now = decode_number(event.get("elapsed")) if event.get("type") in _OF_A_STEP else None
        longest = max(longest, now - before if now is not None and before is not None else 0.0)
        before = now
    return max(STOP_TO_TERM_SECONDS, 3 * longest)


def work_done(run: RunDirectory) -> tuple[int, int]:
    """Bytes in the journal, and bytes of what is being saved: they grow while the worker lives and works."""
    # Not by glob: what is given its name while it is looked at would end the look, and with it the supervisor.
    saving = sum(size_of(Path(folder) / name) for root in (run.path, run.checkpoints)
                 for partial in _names(root) if partial.startswith(".partial-")
                 for folder, _, names in os.walk(root / partial) for name in names)
    return size_of(run.events), saving


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def size_of(path: Path) -> int:
    """A file's bytes; 0 for one that is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def is_responsive(run: RunDirectory, suspended: bool) -> bool:
    """Whether the worker can be expected to obey a command."""
    age = beat_age(run)
    return not suspended and (age is None or age <= STALL_SECONDS)


def stop_deadline(run: RunDirectory) -> tuple[str, float]:
    """(what happens to a worker that is asked to stop now, in words, the seconds after which it is ended at the
    latest, counted from its last sign of progress)."""
    worker = living_worker(run)
    if worker is None:
        return "it ends at once", 0.0
    if not is_responsive(run, worker.is_suspended()):
        why = "was halted by a signal" if worker.is_suspended() else "gives no sign of life"
        return (f"its worker {why}, so it gets SIGTERM at once, and SIGKILL after {TERM_TO_KILL_SECONDS:.0f}s",
                TERM_TO_KILL_SECONDS)
    patience = stop_patience(run)
    return (f"it ends after its current step; when nothing moves for {duration(patience)} it gets SIGTERM, and SIGKILL "
            f"{TERM_TO_KILL_SECONDS:.0f}s later", patience + TERM_TO_KILL_SECONDS)
