"""The queue as it is shown: who waits, at which place, since when and for what."""

from dataclasses import dataclass
from typing import Any

from workbench.engine.paths import runs_dir
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import read_tail
from workbench.engine.runs.queue_file import alive, read_queue
from workbench.engine.runs.state import StateName
from workbench.engine.runs.store import summarise


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One who waits. `position` counts from 1; `since` is seconds since the epoch; `reason` is empty until it is known.
    """

    position: int
    run: RunDirectory
    state: StateName
    held: bool
    reason: str
    since: float

    def to_json(self) -> dict[str, Any]:
        """As `workbench queue --json` shows it."""
        return {"position": self.position, "id": self.run.id, "name": self.run.name, "state": self.state,
                "held": self.held, "reason": self.reason, "since": self.since}


def queue_rows() -> list[QueueRow]:
    """Those who wait, in their order; what the last look of each one's supervisor found."""
    rows = []
    for position, entry in enumerate(alive(read_queue()).entries, 1):
        run = RunDirectory(runs_dir() / entry.run)
        reason = "held" if entry.held else waiting_reason(run)
        # It was released just now: its supervisor has not looked since.
        reason = "" if reason == "held" and not entry.held else reason
        rows.append(QueueRow(position, run, summarise(run).state, entry.held, reason, entry.since))
    return rows


def waiting_reason(run: RunDirectory) -> str:
    """Why a run waits, as its journal says; empty for one that does not wait."""
    last = next((event for event in reversed(read_tail(run.events)) if event.get("type") != "alert"), {})
    return str(last.get("reason", "")) if last.get("type") == "waiting" else ""
