"""Why a run ended: from an exit code, a signal or an exception to a cause, a sentence and a fix."""

import signal
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from workbench.engine.text import one_line

Cause = Literal["oom", "nan", "disk", "killed", "hub", "data", "error", "hang"]


@dataclass(frozen=True)
class Ending:
    """How a run ended, as its `ended` event says it."""

    outcome: Literal["finished", "stopped", "failed"]
    cause: Cause | None = None
    explanation: str | None = None
    suggestion: str | None = None
    evidence: tuple[str, ...] = ()
    """The lines of its log that show it."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Dotted settings of the recipe and the values with which it should go."""
    checkpoint: str | None = None
    """The last checkpoint that verifies, relative to the run's directory."""

    def to_event(self) -> dict[str, Any]:
        """The fields of the event."""
        return asdict(self)


FINISHED = Ending("finished")
STOPPED = Ending("stopped", explanation="Stopped on request.")

LESS_MEMORY = ("Halve training.per_device_train_batch_size and double gradient_accumulation_steps, "
                "shorten training.max_length, or use tuning: qlora.")


def explain_exit(returncode: int, log: str, stopping: bool) -> Ending:
    """The ending of a worker that died without a word: by its return code and the end of its log."""
    if returncode < 0:
        name = signal.Signals(-returncode).name
        if stopping:
            return Ending("stopped", explanation=f"Stopped: the worker did not answer and was ended by {name}.")
        if returncode == -signal.SIGKILL:
            return Ending("failed", "killed", "The worker was killed (SIGKILL), by the kernel for lack of memory or by "
                          "somebody.", "See `dmesg` for an out-of-memory kill; " + LESS_MEMORY)
        return Ending("failed", "killed", f"The worker was ended by {name}.", "See the end of its log.")
    lines = [line for line in log.splitlines() if line.strip()]
    last = one_line(lines[-1], 200) if lines else "it left no message"
    return Ending("failed", "error", f"The worker ended with exit code {returncode}: {last}", "See the log.")


def explain_exception(kind: str, message: str, ours: bool = False) -> Ending:
    """The ending of a worker that raised: `kind` is the exception's class name, `ours` that the message is a sentence
    for the user.

    Names, not classes: this module must not import torch to know its exceptions.
    """
    text = one_line(message, 300)
    lowered = message.lower()
    if kind == "OutOfMemoryError" or "out of memory" in lowered or kind == "MemoryError" \
            or "can't allocate memory" in lowered:
        return Ending("failed", "oom", f"Out of memory: {text or 'an allocation failed'}", LESS_MEMORY)
    if "no space left" in lowered or "disk quota" in lowered:
        return Ending("failed", "disk", f"The disk is full: {text}", "Free some space, then start the run again.")
    if kind == "NonFiniteLossError":
        return Ending("failed", "nan", text, "Lower training.learning_rate, or raise training.warmup_steps.")
    if kind in ("RepositoryNotFoundError", "GatedRepoError", "LocalEntryNotFoundError", "OfflineModeIsEnabled",
                "HubError") or "huggingface.co" in lowered:
        return Ending("failed", "hub", text, "Check the model id, the network, and `hf auth login` for gated models.")
    if kind == "DataError":
        return Ending("failed", "data", text, "Mend the row, then start the run again.")
    return Ending("failed", "error", text if ours else f"{kind}: {text}", "See the log.")
