"""The table of runs: one line each, updated cell by cell."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.widgets import DataTable
from textual.widgets.data_table import CellDoesNotExist

from workbench.engine.runs.queue_rows import QueueRow
from workbench.engine.runs.store import RunSummary
from workbench.engine.text import slug
from workbench.tui.format import STATE_STYLES, age, number
from workbench.tui.widgets.lines import ASCII_EMPTY, ASCII_FILLED, EMPTY, FILLED
from workbench.tui.widgets.sparkline import sparkline

_WIDE = 100
_PADDING = 2
_LEAST_NAME = 12


@dataclass(frozen=True)
class Column:
    """A column: its heading, its width in cells, and what it shows of a run."""

    title: str
    width: int
    cell: Callable[[RunSummary], Text]


class RunsTable(DataTable[Text]):
    """Runs, newest first, with a row cursor that stays on its run."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Watch")]

    def __init__(self) -> None:
        super().__init__(cursor_type="row", cursor_foreground_priority="renderable", cell_padding=1)
        self._runs: dict[str, RunSummary] = {}
        self._marked: set[str] = set()
        self._ages: dict[str, str] = {}
        self._marks: dict[str, str] = {}
        self._queue: dict[str, tuple[int, bool]] = {}
        self._moved: set[str] = set()
        self._layout: list[Column] = []
        self._layout_width = -1
        self._inks: dict[str, Style] = {}

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor."""
        index = self.cursor_row
        ids = list(self._runs)
        return self._runs[ids[index]] if 0 <= index < len(ids) else None

    @property
    def marked(self) -> list[RunSummary]:
        """The runs that are marked, as they stand."""
        return [run for run in self._runs.values() if run.id in self._marked]

    def toggle_mark(self) -> None:
        """Mark the run under the cursor, or mark it no more, and go to the next one."""
        chosen = self.chosen
        if chosen is not None:
            self._marked ^= {chosen.id}
            self.update_cell(chosen.id, "Name", self._name_of(chosen))
            self.action_cursor_down()

    def unmark_all(self) -> bool:
        """Mark none; says whether any was."""
        marked = self.marked
        self._marked.clear()
        for run in marked:
            self.update_cell(run.id, "Name", self._name_of(run))
        return bool(marked)

    def show(self, runs: Sequence[RunSummary], queue: Sequence[QueueRow] = ()) -> None:
        """Show these runs, and the places of those that queue; only what changed is drawn."""
        fresh = {run.id: run for run in runs}
        places, self._queue = self._queue, {row.run.id: (row.position, row.held) for row in queue}
        self._moved = {run for run, _ in places.items() ^ self._queue.items()}
        self._marks = stage_marks(runs, self._ascii)
        if self._layout_width == self.size.width and list(fresh) == list(self._runs):
            self._update_cells(fresh)
        else:
            self._fill(fresh)

    def on_resize(self) -> None:
        """Other columns for another width."""
        if self._layout_width != self.size.width:
            self._fill(self._runs)

    def _lay_out(self) -> None:
        self._layout_width = self.size.width
        self._inks.clear()
        self._layout = self._columns_for(self.size.width)
        self.clear(columns=True)
        for column in self._layout:
            self.add_column(Text(column.title, style=self._ink("muted")), width=column.width, key=column.title)

    def _fill(self, runs: dict[str, RunSummary]) -> None:
        chosen, scroll = self.chosen, self.scroll_y
        if self._layout_width != self.size.width:
            self._lay_out()
        self.clear()
        self._runs, self._ages = runs, {}
        for run in runs.values():
            self._ages[run.id] = age(run.started)
            self.add_row(*(column.cell(run) for column in self._layout), key=run.id)
        if chosen is not None and chosen.id in runs:
            self.move_cursor(row=list(runs).index(chosen.id), animate=False, scroll=False)
            self.scroll_to(y=scroll, animate=False)

    def _update_cells(self, fresh: dict[str, RunSummary]) -> None:
        before, self._runs = self._runs, fresh
        for run in fresh.values():
            if run == before[run.id] and run.id not in self._moved and age(run.started) == self._ages[run.id]:
                continue
            self._ages[run.id] = age(run.started)
            for column in self._layout:
                cell = column.cell(run)
                try:
                    if self.get_cell(run.id, column.title) != cell:
                        self.update_cell(run.id, column.title, cell)
                except CellDoesNotExist:
                    continue

    def _columns_for(self, width: int) -> list[Column]:
        wide = width >= _WIDE
        columns = [
            Column("State", 10, self._state),
            Column("Progress".rjust(26 if wide else 11), 26 if wide else 11, self._progress),
            Column("Loss".rjust(8), 8, lambda run: Text(number(run.last_loss), justify="right")),
            Column("Recent losses" if wide else "Recent", 20 if wide else 10, self._recent),
            Column("Started".rjust(8), 8, lambda run: Text(age(run.started), self._ink("muted"), justify="right")),
        ]
        if wide:
            columns.append(Column("Id", 4, lambda run: Text(run.id[-4:], self._ink("muted"))))
        taken = sum(column.width + _PADDING for column in columns)
        # One cell for a scrollbar: a table that scrolls is as wide as one that does not.
        name = max(width - taken - _PADDING - 1, _LEAST_NAME)
        return [Column("Name", name, self._name_of), *columns]

    def _name_of(self, run: RunSummary) -> Text:
        """The name, after a mark when it is marked; of a stage its place in the pipeline, with a line down to the next
        one."""
        if run.id in self._marked:
            return Text.assemble(("* " if self._ascii else "■ ", self._ink("primary")), self._plain_name(run),
                                 no_wrap=True, overflow="ellipsis")
        return self._plain_name(run)

    def _plain_name(self, run: RunSummary) -> Text:
        if run.pipeline is None:
            return Text(run.run.name, no_wrap=True, overflow="ellipsis")
        place = run.pipeline
        mark = f"{self._marks.get(run.id, ' ')} {place.stage}/{place.of} "
        # The stage's own part of the name first: it is what tells the rows apart.
        own = run.run.name.removeprefix(f"{slug(place.name)}-{place.stage}-")
        chain = "" if own == run.run.name else f" {place.name}"
        return Text.assemble((mark, self._ink("muted")), own, (chain, self._ink("muted")), no_wrap=True,
                             overflow="ellipsis")

    def _state(self, run: RunSummary) -> Text:
        _, held = self._queue.get(run.id, (0, False))
        words, ink = ("held", "paused") if held else (run.state, run.state)
        return Text(f"{'*' if self._ascii else '●'} {words}", self._ink(ink), no_wrap=True)

    def _progress(self, run: RunSummary) -> Text:
        total = run.total_steps
        if run.id in self._queue:
            return Text(f"queue {self._queue[run.id][0]}", self._ink("muted"), justify="right", no_wrap=True)
        steps = f"{run.step}/{total}" if total else f"{run.step}/?" if run.step else "–"
        if self._layout_width < _WIDE:
            return Text(steps, justify="right", no_wrap=True)
        filled = round(run.step / total * 12) if total else 0
        full, empty = (ASCII_FILLED, ASCII_EMPTY) if self._ascii else (FILLED, EMPTY)
        return Text.assemble((full * filled, self._ink(run.state)), (empty * (12 - filled), self._ink("faint")),
                             f"{steps:>14}", no_wrap=True)

    def _recent(self, run: RunSummary) -> Text:
        width = 20 if self._layout_width >= _WIDE else 10
        return Text(sparkline(run.recent_losses, width, ascii=self._ascii), self._ink("primary"), no_wrap=True)

    def _ink(self, name: str) -> Style:
        if name not in self._inks:
            self._inks[name] = self._mix(name)
        return self._inks[name]

    def _mix(self, name: str) -> Style:
        """A colour of the theme, a shade of the foreground, or the colour of a state, for Rich."""
        variables = self.app.theme_variables
        shades = {"muted": 0.45, "faint": 0.75}
        variable = STATE_STYLES.get(name, f"${name}").removeprefix("$")
        if name in shades or variable == "text-muted":
            foreground = Color.parse(variables["foreground"])
            return Style(color=foreground.blend(Color.parse(variables["background"]),
                                                shades.get(name, 0.45)).rich_color)
        return Style(color=Color.parse(variables[variable]).rich_color)

    @property
    def _ascii(self) -> bool:
        return bool(getattr(self.app, "ascii_only", False))


def stage_marks(runs: Iterable[RunSummary], ascii: bool) -> dict[str, str]:
    """For each stage's run the piece of the line that joins a pipeline's stages, which stand below one another."""
    chains: dict[str, list[str]] = {}
    for run in runs:
        if run.pipeline is not None:
            chains.setdefault(run.pipeline.id, []).append(run.id)
    marks: dict[str, str] = {}
    for chain in chains.values():
        line = "|" * len(chain) if ascii else "·" if len(chain) == 1 else f"┌{'├' * (len(chain) - 2)}└"
        marks.update(zip(chain, line, strict=True))
    return marks
