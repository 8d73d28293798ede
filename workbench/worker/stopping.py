"""Where a training begins, and how it is told to stop before. Light: a signal may come while the libraries are still
being imported."""

from dataclasses import dataclass
from pathlib import Path

from workbench.engine.runs.artefacts import step_of
from workbench.engine.runs.directory import RunDirectory


class StopRequestedError(BaseException):
    """The run was told to stop before it could train. No Exception: it is raised wherever a library is, which would
    take it for a failure of its own, and say so or go on."""


class PauseRequestedError(Exception):
    """The run was told to pause before it could train."""


def stop_while_loading(*_: object) -> None:
    """The handler of SIGTERM until training begins. Raises StopRequestedError wherever the worker is."""
    raise StopRequestedError


@dataclass(frozen=True, slots=True)
class Beginning:
    """At the first step, or at a checkpoint of the run's own."""

    checkpoint: Path | None
    step: int

    @classmethod
    def of(cls, run: RunDirectory, checkpoint: str | None) -> "Beginning":
        """By a checkpoint's path in the run's directory."""
        path = run.path / checkpoint if checkpoint is not None else None
        return cls(path, (step_of(path) or 0) if path is not None else 0)
