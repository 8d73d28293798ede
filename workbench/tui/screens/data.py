"""Data: the rows of a dataset as conversations, and what is wrong with them."""

from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static

from workbench.engine.data.conversations import Conversations, read_conversations
from workbench.engine.data.sources import resolve_dataset
from workbench.engine.data.values import Message
from workbench.engine.errors import InputError
from workbench.engine.text import one_line, sanitise
from workbench.tui.screens.base import WorkbenchScreen

# Enough to look around in; the whole file is checked at launch.
_ROWS = 500
_ROLE_STYLES = {"assistant": "$primary", "user": "$warning", "system": "$foreground 55%"}


class DataScreen(WorkbenchScreen):
    """Rows on the left, one of them in full on the right."""

    MODE = "data"
    CSS_PATH = "data.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._reference = "glossary"
        self._base_dir: Path | None = None
        self._rows: tuple[tuple[Message, ...], ...] = ()

    def compose_body(self) -> ComposeResult:
        """Summary, list, detail."""
        yield Static(id="summary", markup=False)
        with Horizontal():
            rows = OptionList(classes="panel", markup=False)
            rows.border_title = "Rows"
            yield rows
            with VerticalScroll(classes="panel", id="row") as panel:
                panel.border_title = "One row"
                yield Static(id="row-text", markup=False)

    def show_dataset(self, reference: str, base_dir: Path | None) -> None:
        """Show another dataset."""
        self._reference, self._base_dir = reference, base_dir
        if self.is_mounted:
            self._read()

    def on_mount(self) -> None:
        """Read what was asked for."""
        self._read()

    @work(thread=True, exclusive=True, group="data")
    def _read(self) -> None:
        try:
            source = resolve_dataset(self._reference, self._base_dir)
            if source.path is None:
                raise InputError(f"{source.name} is on the Hub: its rows can be seen once it is downloaded.")
            found = read_conversations(source.path, _ROWS)
        except InputError as error:
            self.app.call_from_thread(self._show_error, error)
        else:
            self.app.call_from_thread(self._show, found)

    def _show(self, found: Conversations) -> None:
        self._rows = found.rows
        first = f"the first {_ROWS} rows" if len(found.rows) == _ROWS else f"{len(found.rows)} rows"
        self.query_one("#summary", Static).update(Content.assemble(
            (self._reference, "bold"), (f"  {first} · format {found.format.name}: {found.format.why}",
                                        "$foreground 65%")))
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([f"{number:>4}  {one_line(row[-2 if len(row) > 1 else -1]['content'], 120)}"
                             for number, row in enumerate(found.rows, 1)])
        options.highlighted = 0
        options.focus()

    def _show_error(self, error: InputError) -> None:
        self._rows = ()
        self.query_one(OptionList).clear_options()
        self.query_one("#summary", Static).update(Content.styled(error.message, "$error"))
        self.query_one("#row-text", Static).update(error.hint or "")

    @on(OptionList.OptionHighlighted)
    def _show_row(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_index >= len(self._rows):
            return
        parts: list[Content | str] = []
        for message in self._rows[event.option_index]:
            style = _ROLE_STYLES.get(message["role"], "$foreground 55%")
            parts += [Content.styled(message["role"], f"bold {style}"), "\n", sanitise(message["content"]), "\n\n"]
        self.query_one("#row-text", Static).update(Content.assemble(*parts))
        self.query_one("#row").border_title = f"Row {event.option_index + 1}"
