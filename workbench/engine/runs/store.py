"""Reading runs: one run followed closely, or many at a glance."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from workbench.engine.runs.chain import StageOf, stage_of
from workbench.engine.runs.directory import RunDirectory, list_run_directories
from workbench.engine.runs.journal import JournalReader, decode_number, read_tail
from workbench.engine.runs.liveness import lock_holder
from workbench.engine.runs.state import AT_REST, RunState, Sample, StateName, with_liveness

# A supervisor needs a moment between the directory and the lock; until then a run is queued, not crashed.
_START_GRACE_SECONDS = 15.0
_BEGINNINGS = frozenset({"queued", "resumed", "restarted"})
"""Events after which a run has not started yet."""


@dataclass
class RunFollower:
    """One run, read again and again: `refresh` takes in what is new, in time proportional to it."""

    run: RunDirectory
    state: RunState = field(default_factory=RunState)
    samples: list[Sample] = field(default_factory=list)
    name: StateName = "queued"
    corrupt: int = 0

    def __post_init__(self) -> None:
        self._events = JournalReader(self.run.events)
        self._samples = JournalReader(self.run.samples)
        self._generations = (0, 0)
        self._spoke = time.monotonic()

    def refresh(self) -> bool:
        """Read what is new; True when anything changed. Raises FileNotFoundError when the run was deleted."""
        before = (self.name, self.corrupt, len(self.samples))
        # Liveness first: a run that ends between the two reads must not look crashed.
        supervised = is_supervised(self.run)
        changed = False
        for event in self._events.read():
            self._forget_what_is_void()
            self.state.apply(event)
            changed = True
        for entry in self._samples.read():
            self._forget_what_is_void()
            if isinstance(entry.get("resumed"), int):
                self.samples = [sample for sample in self.samples if sample.step <= entry["resumed"]]
            elif isinstance(entry.get("step"), int):
                self.samples.append(Sample(entry["step"], str(entry.get("prompt")), str(entry.get("text"))))
        changed = self._forget_what_is_void() or changed
        if changed:
            self._spoke = time.monotonic()
        self.corrupt = self._events.corrupt + self._samples.corrupt + self.state.repeated
        self.name = with_liveness(self.state.journal_state, supervised, heartbeat_age(self.run), beat_age(self.run))
        if not self.run.path.is_dir():
            raise FileNotFoundError(self.run.path)
        return changed or before != (self.name, self.corrupt, len(self.samples))

    def _forget_what_is_void(self) -> bool:
        """Begin anew where another file took a file's place (a copy that was put back); whether it did."""
        found = (self._events.generation, self._samples.generation)
        before, self._generations = self._generations, found
        if found[0] != before[0]:
            self.state = RunState()
        if found[1] != before[1]:
            self.samples = []
        return found != before

    @property
    def ended(self) -> bool:
        """Whether nothing more will come by itself."""
        return self.name in AT_REST

    @property
    def elapsed(self) -> float:
        """Seconds that somebody worked on it, waiting and rest left out: no difference of two times, as clocks are set.

        While it works those since its last word, as far as it was seen, are among them.
        """
        return self.state.elapsed + (time.monotonic() - self._spoke if self.name in ("running", "stalled") else 0.0)


@dataclass(frozen=True)
class RunSummary:
    """One run at a glance. `started` is seconds since the epoch."""

    run: RunDirectory
    state: StateName
    step: int
    total_steps: int | None
    last_loss: float | None
    started: float | None
    recent_losses: tuple[float, ...] = ()
    pipeline: StageOf | None = None
    """Its place in a pipeline; None for a run that stands alone."""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id

    def to_json(self) -> dict[str, Any]:
        """As `workbench runs --json` shows it."""
        return {"id": self.id, "name": self.run.name, "state": self.state, "step": self.step,
                "total_steps": self.total_steps, "last_loss": self.last_loss, "started": self.started,
                "pipeline": self.pipeline.to_json() if self.pipeline else None}


def summarise(run: RunDirectory) -> RunSummary:
    """The run at a glance, from the end of its journal alone: the cost does not grow with the run.

    One at rest is read once: nothing but its own journal wakes it, and a crashed one who takes it over. Screens ask for
    thousands of them every second.
    """
    version = _version_of(run.events)
    known = _AT_REST.get(run.path)
    if known is not None and known[0] == version and not (known[1].state == "crashed" and is_supervised(run)):
        return known[1]
    summary = _read_summary(run)
    if summary.state in AT_REST and version is not None:
        _AT_REST[run.path] = (version, summary)
    return summary


_AT_REST: dict[Path, tuple[tuple[int, int, int], RunSummary]] = {}


def _version_of(path: Path) -> tuple[int, int, int] | None:
    """What changes with every write to a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read_summary(run: RunDirectory) -> RunSummary:
    supervised = is_supervised(run)
    state = RunState()
    total: int | None = None
    tail = read_tail(run.events)
    for event in tail:
        state.apply(event)
        if isinstance(event.get("total_steps"), int):
            total = event["total_steps"]
    # The tail of a long run may not reach back to `started`, but its steps say that it began.
    if state.journal_state == "queued" and state.step and not any(event.get("type") in _BEGINNINGS for event in tail):
        state.journal_state = "running"
    # What is `started` in the tail of a run that went on is no more than its last worker.
    started = state.started if tail and tail[0].get("seq") == 0 else None
    losses = state.metrics.get("train/loss")
    return RunSummary(
        run=run, step=state.step,
        state=with_liveness(state.journal_state, supervised, heartbeat_age(run), beat_age(run)),
        total_steps=state.total_steps or total, last_loss=state.last("train/loss"),
        started=started or _time_in_id(run),
        recent_losses=tuple(losses.values[-40:]) if losses else (), pipeline=stage_of(run),
    )


def list_runs() -> list[RunSummary]:
    """Every run at a glance, newest first; of one that cannot be read no more than that it is there, as crashed."""
    return [_summary(run) for run in list_run_directories()]


def _summary(run: RunDirectory) -> RunSummary:
    try:
        return summarise(run)
    except OSError:
        return RunSummary(run, "crashed", 0, None, None, _time_in_id(run))


def is_supervised(run: RunDirectory) -> bool:
    """Whether a supervisor holds the run's lock, or is about to take it."""
    if lock_holder(run.lock) is not None:
        return True
    try:
        # Either way: a clock that was set back must not make it wait for an hour.
        return not run.status.exists() and abs(time.time() - run.path.stat().st_mtime) < _START_GRACE_SECONDS
    except FileNotFoundError:
        return False


def read_status(run: RunDirectory) -> dict[str, Any]:
    """The supervisor's last status; empty when there is none."""
    return read_json(run.status)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when it is missing or damaged."""
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return document if isinstance(document, dict) else {}


def heartbeat_age(run: RunDirectory) -> float | None:
    """Seconds since the supervisor's last heartbeat; None when there was none in this boot."""
    beat = decode_number(read_status(run).get("heartbeat_monotonic"))
    return None if beat is None else max(time.monotonic() - beat, 0.0)


def beat_age(run: RunDirectory) -> float | None:
    """Seconds since the worker's last sign of life; None when there was none in this boot, or the worker is gone."""
    try:
        age = time.monotonic() - float(run.beat.read_text())
    except (OSError, ValueError):
        return None
    return age if age >= 0 else None


def _time_in_id(run: RunDirectory) -> float | None:
    try:
        return time.mktime(time.strptime(run.id[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        return None
