"""What became of runs since they were last looked at: told on every screen but the one that shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.state import AT_REST, StateName
from workbench.engine.runs.store import RunSummary

_WORDS = {"finished": "has finished", "stopped": "was stopped", "failed": "has failed", "crashed": "has crashed",
          "paused": "is paused"}


@dataclass(frozen=True)
class News:
    """A run that came to rest, in words."""

    run: RunDirectory
    title: str
    hint: str
    severity: Literal["information", "error"]


class RunNews:
    """Remembers how runs stood. Mutable: each look is compared with the one before."""

    def __init__(self) -> None:
        self._before: dict[str, StateName] = {}

    def since_last(self, runs: Sequence[RunSummary]) -> list[News]:
        """The runs that have come to rest since the last look; none at the first."""
        news = [_told(run) for run in runs
                if run.state in AT_REST and self._before.get(run.id, run.state) not in AT_REST]
        self._before = {run.id: run.state for run in runs}
        return news


def _told(run: RunSummary) -> News:
    steps = f" at step {run.step}" if run.step and run.state != "finished" else ""
    hint = {"failed": "Enter on it in Runs (3) shows why.", "crashed": "Enter on it in Runs (3) shows what is left.",
            "paused": "r in Runs (3) goes on with it."}.get(run.state, "")
    severity: Literal["information", "error"] = "error" if run.state in ("failed", "crashed") else "information"
    return News(run.run, f"{run.run.name} {_WORDS[run.state]}{steps}.", hint, severity)
