"""Runs: every run at a glance."""

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Input, Static

from workbench.engine.runs.chain import by_chain
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.store import RunSummary
from workbench.tui.format import STATE_STYLES
from workbench.tui.run_reader import worker_lives
from workbench.tui.screens.queueing import QUEUE_ACTIONS, QueueingScreen, QueueLine, in_queue_order
from workbench.tui.screens.run_actions import RunActions, Subject
from workbench.tui.widgets.runs_table import RunsTable

_NO_RUNS = "No runs yet.\n\nPress 1 to plan one, or try the demo from a shell: workbench demo"

_MAY = {"stop": "may_stop", "pause": "may_pause", "resume": "may_resume", "delete": "may_delete"}


class RunsScreen(RunActions, QueueingScreen):
    """The list, with a line of counts above and a filter that opens on demand."""

    MODE: ClassVar[str] = "runs"
    CSS_PATH = "runs.tcss"
    AUTO_FOCUS = "RunsTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "Stop"),
        Binding("p", "pause", "Pause"),
        Binding("r", "resume", "Resume"),
        Binding("c", "chat", "Chat"),
        Binding("d", "delete", "Delete"),
        Binding("space", "mark", "Mark", show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "clear_filter", "Clear marks, then the filter", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._composed = False
        self._offered: tuple[bool | None, ...] = ()

    def compose_body(self) -> ComposeResult:
        """Counts, table, filter, and what is shown instead of an empty table."""
        yield Static(id="counts", markup=False)
        with Vertical(id="list"):
            yield RunsTable()
        yield QueueLine()
        yield Static(_NO_RUNS, id="none", classes="empty", markup=False)
        yield Input(placeholder="part of a name, a state or an id", id="filter", compact=True)

    def on_mount(self) -> None:
        """Start without a filter."""
        self._composed = True
        self.query_one(Input).display = False
        self._show()

    def on_screen_resume(self) -> None:
        """Show what the application knows already."""
        self._show()

    def on_poll(self) -> None:
        """Show the fresh list."""
        self._show()

    def _show(self) -> None:
        # Called by the application too: before this screen is composed, and while all of it is taken down.
        if not self._composed or not self.app.is_running:
            return
        runs = self.workbench.runs
        queue = self.workbench.queue
        shown = in_queue_order(by_chain(matching(runs, self.query_one(Input).value)), queue)
        self.query_one(RunsTable).show(shown, queue)
        self.query_one("#list").display = bool(shown)
        none = self.query_one("#none", Static)
        none.display = not shown
        if not shown:
            none.update("No run matches the filter.\n\nPress esc to see all of them." if runs else _NO_RUNS)
        self._count()

    def _count(self) -> None:
        table = self.query_one(RunsTable)
        self.query_one("#counts", Static).update(
            _counts(self.workbench.runs, table.row_count, len(table.marked)))
        self._offer_keys()

    @property
    def chosen_run(self) -> RunDirectory | None:
        """The run under the cursor."""
        chosen = self._chosen if self._composed else None
        return chosen.run if chosen is not None else None

    @property
    def _chosen(self) -> RunSummary | None:
        return self.query_one(RunsTable).chosen if self.query_one("#list").display else None

    @on(DataTable.RowHighlighted)
    def _offer_keys(self) -> None:
        # Refreshing builds the footer anew: only when another set of keys makes sense.
        self.query_one(QueueLine).show(self.queue_row, len(self.workbench.queue))
        offered = tuple(self.check_action(action, ()) for action in (*_MAY, *QUEUE_ACTIONS, "chat"))
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()

    @property
    def subjects(self) -> list[Subject]:
        """What the keys act on: the marked runs, or the one under the cursor."""
        if not self._composed or self._chosen is None:
            return []
        return [Subject(run.run, run.state, run.step, run.state == "crashed" and worker_lives(run.run))
                for run in self.query_one(RunsTable).marked or [self._chosen]]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is done to runs is offered where it does something, the queue's keys to who waits in it."""
        if (offered := self.offers(action)) is not None:
            return offered
        if action == "chat" and self._chosen is not None and not self._chosen.step:
            return False  # it has learned nothing yet
        return action not in _MAY or any(getattr(subject, _MAY[action]) for subject in self.subjects)

    @on(DataTable.RowSelected)
    def _watch(self) -> None:
        if self._chosen is not None:
            self.workbench.watch_run(self._chosen.run)

    def action_chat(self) -> None:
        """Talk to what the run has trained."""
        if self._chosen is not None:
            self.workbench.chat_with(self._chosen.id)

    def action_resume(self) -> None:
        """Go on with what is chosen; a single run is watched then."""
        self.resume_runs([subject for subject in self.subjects if subject.may_resume])

    def action_stop(self) -> None:
        """Ask, then stop what is chosen."""
        self.stop_runs(self.subjects)

    def action_pause(self) -> None:
        """Pause what is chosen: it can go on later."""
        self.pause_runs(self.subjects)

    def action_delete(self) -> None:
        """Ask, then delete what is chosen."""
        self.delete_runs(self.subjects)

    def action_filter(self) -> None:
        """Open the filter."""
        self.query_one(Input).display = True
        self.query_one(Input).focus()

    def action_mark(self) -> None:
        """Mark the run under the cursor, for what is done to several at once."""
        self.query_one(RunsTable).toggle_mark()
        self._count()

    def action_clear_filter(self) -> None:
        """Mark no run any more; without marks, show all runs again."""
        if self.query_one(RunsTable).unmark_all():
            self._count()
            return
        self.query_one(Input).value = ""
        self.query_one(Input).display = False
        self.query_one(RunsTable).focus()

    @on(Input.Changed)
    def _filtered(self) -> None:
        self._show()

    @on(Input.Submitted)
    def _keep_filter(self, event: Input.Submitted) -> None:
        if not event.value:
            self.query_one(Input).display = False
        self.query_one(RunsTable).focus()


def matching(runs: Sequence[RunSummary], wanted: str) -> list[RunSummary]:
    """The runs whose id (which holds the name) or state holds every word of `wanted`."""
    words = wanted.lower().split()
    return [run for run in runs if all(word in run.id or word in run.state for word in words)]


def _counts(runs: Sequence[RunSummary], shown: int, marked: int) -> Content:
    if not runs:
        return Content("")
    total = f"{len(runs)} run{'s' if len(runs) != 1 else ''}" if shown == len(runs) else f"{shown} of {len(runs)} runs"
    states = Counter[str](run.state for run in runs)
    parts = [Content.styled(total, "bold")]
    if marked:
        parts.append(Content.styled(f"{marked} marked, esc clears", "bold $primary"))
    parts += [Content.styled(f"{states[state]} {state}", style) for state, style in STATE_STYLES.items()
              if state in states]
    return Content.styled(" · ", "$foreground 30%").join(parts)
