"""The keys that change the queue's order, and the line that says why the run under the cursor waits."""

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from workbench.engine.errors import RunError
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.queue import Move
from workbench.engine.runs.queue_file import hold_in_queue, move_in_queue
from workbench.engine.runs.queue_rows import QueueRow
from workbench.engine.runs.store import RunSummary
from workbench.engine.text import sanitise
from workbench.tui.format import duration
from workbench.tui.screens.base import WorkbenchScreen

QUEUE_ACTIONS = ("queue_move", "queue_hold", "queue_release")


class QueueLine(Static):
    """Where the run under the cursor stands in the queue, and why it waits; not there for one that does not."""

    DEFAULT_CSS = "QueueLine { height: auto; max-height: 3; padding: 0 1; margin: 1 0 0 0; }"

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, row: QueueRow | None, length: int) -> None:
        """Show a row of the queue, of so many."""
        self.display = row is not None
        if row is not None:
            self.update(queue_content(row, length))


class QueueingScreen(WorkbenchScreen):
    """A screen with runs, of which one is `chosen_run`; those that wait in the queue can be moved and held."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,K,shift+up", "queue_move('up')", "Up", key_display="+"),
        Binding("minus,J,shift+down", "queue_move('down')", "Down", key_display="-"),
        Binding("h", "queue_hold", "Hold"),
        Binding("h", "queue_release", "Release"),
    ]

    @property
    def chosen_run(self) -> RunDirectory | None:
        """The run that the keys are about."""
        raise NotImplementedError

    @property
    def queue_row(self) -> QueueRow | None:
        """Its place in the queue; None where it does not wait there."""
        return next((row for row in self.workbench.queue if row.run == self.chosen_run), None)

    def offers(self, action: str) -> bool | None:
        """Whether a key of the queue does something; None for other keys."""
        if action not in QUEUE_ACTIONS:
            return None
        row = self.queue_row
        return row is not None and (action == "queue_move" or row.held == (action == "queue_release"))

    def action_queue_move(self, move: Move) -> None:
        """Move the run one place in the queue."""
        self._change(lambda run: move_in_queue(run, move))

    def action_queue_hold(self) -> None:
        """Keep its place, and let others pass."""
        self._change(lambda run: hold_in_queue(run, True))

    def action_queue_release(self) -> None:
        """Let it start when its turn comes."""
        self._change(lambda run: hold_in_queue(run, False))

    def _change(self, change: Callable[[RunDirectory], object]) -> None:
        if self.queue_row is not None:
            self._write(self.queue_row.run, change)

    @work(thread=True, group="queue")
    def _write(self, run: RunDirectory, change: Callable[[RunDirectory], object]) -> None:
        try:
            change(run)
        except RunError as error:
            self.app.call_from_thread(self.notify, error.hint or "", title=error.message, severity="error",
                                      markup=False)
        self.app.call_from_thread(self.workbench.look_now)


def queue_content(row: QueueRow, length: int) -> Content:
    """Place, reason, and for how long."""
    muted = "$foreground 55%"
    reason = "held: others pass it, h lets it start" if row.held else sanitise(row.reason)
    parts: list[Content | tuple[str, str] | str] = [(f"Queue {row.position} of {length}", "bold")]
    parts += [(" · ", muted), reason] if reason else []
    return Content.assemble(*parts, (f" · waits for {duration(time.time() - row.since)}", muted))


def in_queue_order(runs: Sequence[RunSummary], queue: Sequence[QueueRow]) -> list[RunSummary]:
    """The runs with those that queue together and in their order, where the first of them stands; a pipeline's stages
    stay where their pipeline is."""
    position = {row.run.id: row.position for row in queue}
    queued = sorted((run for run in runs if run.id in position and not run.pipeline), key=lambda run: position[run.id])
    first = next((number for number, run in enumerate(runs) if run in queued), 0)
    rest = [run for run in runs if run not in queued]
    return [*rest[:first], *queued, *rest[first:]]
