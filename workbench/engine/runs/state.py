"""The state of a run: a pure fold of its events, and what liveness adds to it."""

from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal

from workbench.engine.runs.journal import Event, decode_number, encode_number
from workbench.engine.runs.series import Metrics, MetricSeries

StateName = Literal["queued", "waiting", "running", "paused", "finished", "stopped", "failed", "crashed", "stalled"]
STALL_SECONDS = 20.0
"""A supervisor writes its heartbeat every second; this long without one means that it hangs."""
ENDED: frozenset[str] = frozenset({"finished", "stopped", "failed", "crashed"})
AT_REST: frozenset[str] = ENDED | {"paused"}
"""States in which nothing more happens by itself."""
# A guard that speaks at every step of a day must not fill the reader's memory; the newest are kept.
_MOST_ALERTS = 1000


@dataclass(frozen=True)
class Sample:
    """What the model answered to one prompt at one step."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint that was written, and whether its manifest was verified. `metric` is the value that made it the best
    so far, None for one that was not chosen."""

    step: int
    path: str
    verified: bool
    best: bool = False
    metric: float | None = None


@dataclass(frozen=True)
class Alert:
    """Something the run wants the user to know."""

    step: int
    level: str
    message: str


@dataclass(frozen=True)
class ProbedMemory:
    """What the probe measured before the first step, in bytes; None for what its device does not count.

    `tokens` is the padded length of its longest rows, `estimated` the closed form's answer for that very batch.
    """

    allocated: int | None
    reserved: int | None
    resident: int | None
    rows: int
    tokens: int
    estimated: int | None
    seconds: float


@dataclass(frozen=True)
class Attempt:
    """A time that the run went on: from `step`, with `changes` to its recipe. By itself when `cause` says after what,
    as the `number`th of `of` times; else because somebody asked for it."""

    step: int
    changes: dict[str, Any]
    cause: str | None = None
    number: int | None = None
    of: int | None = None


@dataclass
class RunState:
    """What the events say so far. Mutable working state of the fold: `apply` each event, in order."""

    journal_state: StateName = "queued"
    """The state by the events alone; `with_liveness` turns a dead `running` into `crashed`."""
    phase: str = ""
    """What a run without steps yet is doing, in words."""
    cause: str | None = None
    explanation: str | None = None
    suggestion: str | None = None
    step: int = 0
    total_steps: int | None = None
    epoch: float | None = None
    started: float | None = None
    ended: float | None = None
    elapsed: float = 0.0
    parameters: int | None = None
    trainable_parameters: int | None = None
    device: str | None = None
    device_name: str | None = None
    """A GPU's name as its driver gives it; `cpu` for the CPU."""
    rehearsed_peak: int | None = None
    """Bytes that a rehearsal before the launch traced."""
    probed: ProbedMemory | None = None
    evidence: tuple[str, ...] = ()
    """Of a failed run: the lines that show why."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Of a failed run: dotted settings of its recipe and the values that would mend it."""
    resumed_from: int | None = None
    restarts: int = 0
    """Times that the supervisor went on by itself after a failure."""
    attempts: list[Attempt] = field(default_factory=list)
    """Every time that the run went on, by itself or because it was asked for."""
    metrics: Metrics = field(default_factory=Metrics)
    checkpoints: list[CheckpointInfo] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Command id → what came of it."""
    unknown: int = 0
    """Events of a type or shape this version does not know."""
    repeated: int = 0
    """Lines that stood in the journal again, or out of order."""
    waited: bool = False
    """Whether it waits in the queue, or came to rest while it did: no worker was started since."""
    _seq: int = -1

    def apply(self, event: Event) -> None:
        """Take one event in; anything malformed is counted, never raised."""
        if self._is_repeated(event):
            self.repeated += 1
            return
        try:
            _HANDLERS[event["type"]](self, event)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self.unknown += 1

    def _is_repeated(self, event: Event) -> bool:
        """Whether a line stands where the writer did not put it: again, or behind later ones.

        Its number *and* its time lie behind: one damaged line with either of them far ahead hides nothing after it.
        """
        seq, elapsed = event.get("seq"), decode_number(event.get("elapsed"))
        if elapsed is None or not isfinite(elapsed):
            return False
        if isinstance(seq, int):
            if seq <= self._seq and elapsed <= self.elapsed:
                return True
            self._seq = seq
        self.elapsed = elapsed
        return False

    def _on_queued(self, event: Event) -> None:
        self.journal_state = "queued"
        self.started = self.started or decode_number(event["time"])

    def _on_waiting(self, event: Event) -> None:
        self.journal_state = "waiting"
        self.waited = "run" not in event  # else for the stage before it
        self.phase = str(event.get("reason", ""))

    def _on_started(self, event: Event) -> None:
        # Waiting for another run is no part of how long this one took.
        waited = self.journal_state == "waiting"
        self.started = decode_number(event["time"]) if waited else self.started or decode_number(event["time"])
        self.journal_state = "running"
        self.waited = False
        self._forget_the_end()

    def _forget_the_end(self) -> None:
        self.cause = self.explanation = self.suggestion = self.ended = None
        self.evidence, self.changes = (), {}

    def _on_phase(self, event: Event) -> None:
        self.phase = str(event["phase"])

    def _on_loaded(self, event: Event) -> None:
        self.parameters = int(event["parameters"])
        self.trainable_parameters = int(event["trainable_parameters"])
        self.total_steps = int(event["total_steps"])
        self.device = str(event["device"])
        self.device_name = event.get("device_name")

    def _on_rehearsed(self, event: Event) -> None:
        self.rehearsed_peak = int(event["peak_bytes"])

    def _on_probed(self, event: Event) -> None:
        self.probed = ProbedMemory(
            allocated=_whole(event.get("peak_allocated")), reserved=_whole(event.get("peak_reserved")),
            resident=_whole(event.get("peak_resident")), rows=int(event["rows"]), tokens=int(event["tokens"]),
            estimated=_whole(event.get("estimated")), seconds=float(event["seconds"]))

    def _on_step(self, event: Event) -> None:
        self.phase = ""
        self.step = int(event["step"])
        self.epoch = decode_number(event.get("epoch"))
        self._add_metrics(event)

    def _on_eval(self, event: Event) -> None:
        self._add_metrics(event)

    def _on_memory(self, event: Event) -> None:
        self._add_metrics(event)

    def _add_metrics(self, event: Event) -> None:
        decoded = {name: decode_number(raw) for name, raw in event["metrics"].items()}
        self.metrics.add(int(event["step"]), {name: value for name, value in decoded.items() if value is not None},
                         self.elapsed)

    def _on_sample(self, event: Event) -> None:
        self.phase = ""

    def _on_checkpoint(self, event: Event) -> None:
        kept = CheckpointInfo(int(event["step"]), str(event["path"]), bool(event["verified"]),
                              bool(event.get("best", False)), decode_number(event.get("metric")))
        removed = set(event.get("removed", ()))
        others = [c for c in self.checkpoints if c.path not in removed and c.path != kept.path]
        self.checkpoints = [replace(c, best=False) if kept.best else c for c in others] + [kept]

    def _on_command(self, event: Event) -> None:
        self.acknowledged[str(event["id"])] = str(event["result"])

    def _on_alert(self, event: Event) -> None:
        self.alerts.append(Alert(int(event.get("step", self.step)), str(event["level"]), str(event["message"])))
        del self.alerts[:-_MOST_ALERTS]

    def _on_guarded(self, event: Event) -> None:
        """A guard found all well; what it finds wrong is an alert, or the run's end."""

    def _on_paused(self, event: Event) -> None:
        self.journal_state = "paused"
        self.phase = ""
        # What was saved last may lie between two logged steps.
        self.step = max(self.step, int(event.get("step") or 0))

    def _on_restarted(self, event: Event) -> None:
        self._on_resumed(event)
        self.restarts += 1

    def _on_resumed(self, event: Event) -> None:
        step = int(event["step"])
        self.journal_state = "queued"
        self._forget_the_end()
        self.step = self.resumed_from = step
        self.attempts.append(Attempt(step, dict(event.get("changes") or {}), event.get("cause"),
                                     _whole(event.get("attempt")), _whole(event.get("of"))))
        self.metrics.drop_after(step)
        self.checkpoints = [checkpoint for checkpoint in self.checkpoints if checkpoint.step <= step]

    def _on_ended(self, event: Event) -> None:
        outcome = event["outcome"]
        if outcome not in ("finished", "stopped", "failed"):
            raise ValueError(outcome)
        self.journal_state = outcome
        self.phase = ""
        self.ended = decode_number(event["time"])
        self.cause = event.get("cause")
        self.explanation = event.get("explanation")
        self.suggestion = event.get("suggestion")
        self.evidence = tuple(map(str, event.get("evidence") or ()))
        self.changes = dict(event.get("changes") or {})

    def last(self, name: str) -> float | None:
        """The newest value of a metric."""
        series = self.metrics.get(name)
        return series.last if series else None


_HANDLERS = {name.removeprefix("_on_"): handler for name, handler in vars(RunState).items() if name.startswith("_on_")}


def _whole(value: object) -> int | None:
    number = decode_number(value)
    return None if number is None else int(number)


def with_liveness(journal_state: StateName, supervised: bool, heartbeat_age: float | None,
                  beat_age: float | None = None) -> StateName:
    """The state as it really is: no supervisor and no end means crashed, one that gives no sign of life, or whose
    worker gives none, stalled.

    `heartbeat_age` is the supervisor's, `beat_age` the worker's, in seconds; None when none was ever written.
    """
    if journal_state == "failed" and supervised and heartbeat_age is not None and heartbeat_age <= STALL_SECONDS:
        # Its supervisor has not left: it may start another worker.
        return "running"
    if journal_state in AT_REST:
        return journal_state
    if not supervised:
        return "crashed"
    if any(age is not None and age > STALL_SECONDS for age in (heartbeat_age, beat_age)):
        return "stalled"
    return journal_state


def metric_points(series: MetricSeries) -> list[list[Any]]:
    """[[step, value]…] as JSON can carry it."""
    return [[step, encode_number(value)] for step, value in zip(series.steps, series.values, strict=True)]
