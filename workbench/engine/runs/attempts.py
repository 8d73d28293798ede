"""Whether a run that failed is started again by itself, by what its recipe allows in `on_failure`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.engine.runs.journal import Event

RESUMABLE_CAUSES = frozenset({"killed", "hang", "error"})
"""Causes that may be gone the next time. Data, NaN, a full disk and the Hub need somebody's hand."""
_BATCH, _ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"


@dataclass(frozen=True)
class Failure:
    """What failed: the ending's cause, and whether a signal of the host's kernel ended the worker."""

    cause: str | None
    by_signal: bool = False


@dataclass(frozen=True)
class Restart:
    """A decision to go on: as the `attempt`th of `of` times, or with `changes` to the recipe, which do not count."""

    attempt: int | None
    of: int | None
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What is done, for the user."""
        if self.changes:
            batch, steps = self.changes[f"training.{_BATCH}"], self.changes[f"training.{_ACCUMULATION}"]
            return f"with a batch of {batch} and {steps} accumulation steps: the effective batch stays the same"
        return f"restart {self.attempt} of {self.of}"


@dataclass(frozen=True)
class NoRestart:
    """A decision not to go on; `why` is a sentence where the recipe allows more than was done, else empty."""

    why: str = ""


@dataclass
class Attempts:
    """What was done so far since somebody started or resumed the run. Mutable."""

    used: int = 0
    """Restarts that count against `on_failure.resume`."""
    moved: bool = True
    """Whether a step, an evaluation or a checkpoint came since the last of them."""

    def take(self, event: Event) -> None:
        """Take in an event of the run's journal."""
        type_ = event.get("type")
        if type_ == "resumed":
            self.used, self.moved = 0, True
        elif type_ == "restarted":
            if isinstance(attempt := event.get("attempt"), int):
                self.used = attempt
            self.moved = False
        elif type_ in ("step", "eval", "checkpoint"):
            self.moved = True

    @classmethod
    def read(cls, events: Iterable[Event]) -> "Attempts":
        """What a journal says was done."""
        attempts = cls()
        for event in events:
            attempts.take(event)
        return attempts


def decide(failure: Failure, recipe: Mapping[str, Any], attempts: Attempts) -> Restart | NoRestart:
    """Whether to go on, by the run's recipe as plain data."""
    allowed = _section(recipe, "on_failure")
    training = _section(recipe, "training")
    batch, steps = training.get(_BATCH), training.get(_ACCUMULATION)
    out_of_memory = failure.cause == "oom"
    if out_of_memory and allowed.get("halve_batch"):
        # KTO estimates its KL term within a micro-batch.
        same_training = recipe.get("objective") != "kto"
        if same_training and isinstance(batch, int) and isinstance(steps, int) and batch > 1 and batch % 2 == 0:
            return Restart(None, None, {f"training.{_BATCH}": batch // 2, f"training.{_ACCUMULATION}": steps * 2})
        if not failure.by_signal:
            return NoRestart(f"Its batch of {batch} cannot be halved any more." if same_training else
                             "KTO with half the batch would be another training.")
    times = allowed.get("resume")
    # The same work on the same GPU would run out of its memory again; a host's memory is shared with others.
    if not isinstance(times, int) or times < 1 or not (
            failure.cause in RESUMABLE_CAUSES or (out_of_memory and failure.by_signal)):
        return NoRestart()
    if attempts.used and not attempts.moved:
        return NoRestart("It failed again before it had made a step, so it was not started again.")
    if attempts.used >= times:
        return NoRestart(f"It was started again {times} {'time' if times == 1 else 'times'}, as often as "
                         "on_failure.resume allows.")
    return Restart(attempts.used + 1, times)


def hung_minutes(recipe: Mapping[str, Any]) -> float | None:
    """Minutes without a sign of life after which a worker is ended; None where it may not be started again."""
    allowed = _section(recipe, "on_failure")
    times, minutes = allowed.get("resume"), allowed.get("hang_minutes", 30)
    return minutes if isinstance(times, int) and times > 0 and isinstance(minutes, int | float) else None


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = recipe.get(name)
    return found if isinstance(found, Mapping) else {}
