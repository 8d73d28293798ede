"""Rows of a dataset as a list of lines: any number of them, of which only those in sight are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.tui.widgets.cells import text_cells

_NUMBER_WIDTH = 4


@dataclass(frozen=True, slots=True)
class RowLine:
    """One line: the row's `number` in its file, its beginning, and whether there is something wrong with it."""

    number: int
    text: str
    bad: bool = False


class RowList(ScrollView, can_focus=True):
    """A cursor over the rows that are held. Posts `Moved` when it stands on another."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"row-list--number", "row-list--cursor", "row-list--bad"}
    DEFAULT_CSS = """
    RowList {
        height: 1fr; scrollbar-size-vertical: 1; scrollbar-background: $background; scrollbar-color: $border;
        overflow-x: hidden;
        & .row-list--number { color: $foreground 45%; }
        & .row-list--cursor { background: $block-cursor-background; color: $foreground; }
        & .row-list--bad { color: $error; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Row above", show=False),
        Binding("down,j", "move(1)", "Row below", show=False),
        Binding("pageup", "page(-1)", "Page above", show=False),
        Binding("pagedown", "page(1)", "Page below", show=False),
        Binding("home", "go_to(0)", "First row", show=False),
        Binding("end", "go_to(-1)", "Last row read", show=False),
    ]

    @dataclass
    class Moved(Message):
        """The cursor stands on the row of this index, of those that are held."""

        index: int

    def __init__(self) -> None:
        super().__init__()
        self._rows: Sequence[RowLine] = ()
        self._cursor = 0

    @property
    def cursor(self) -> int:
        """The index of the row under the cursor."""
        return self._cursor

    def show(self, rows: Sequence[RowLine], cursor: int, gone: int = 0) -> None:
        """Show these rows, the cursor on one of them; `gone` rows that stood before the first of them are there no
        more. What is in sight stays where it is, as far as it can."""
        self._rows = rows
        self._cursor = min(max(cursor, 0), max(len(rows) - 1, 0))
        self.virtual_size = Size(self.size.width, len(rows))
        if gone:
            self.scroll_to(y=max(self.scroll_y - gone, 0), animate=False, force=True, immediate=True)
        self._into_view()
        self.refresh()

    def on_resize(self) -> None:
        """Lines are as wide as there is room."""
        self.virtual_size = Size(self.size.width, len(self._rows))
        self._into_view()

    def action_move(self, by: int) -> None:
        """Go to a row above or below."""
        self._go(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Go a page up or down."""
        self._go(self._cursor + by * max(self.size.height - 1, 1))

    def action_go_to(self, index: int) -> None:
        """Go to the first row that is held, or to the last (-1)."""
        self._go(index if index >= 0 else len(self._rows) - 1)

    def on_click(self, event: events.Click) -> None:
        """Go to the row that was clicked."""
        offset = event.get_content_offset(self)
        if offset is not None:
            self._go(offset.y + round(self.scroll_y))

    def _go(self, index: int) -> None:
        index = min(max(index, 0), len(self._rows) - 1)
        if index < 0 or index == self._cursor:
            return
        for row in (self._cursor, index):
            self.refresh(Region(0, row - round(self.scroll_y), self.size.width, 1))
        self._cursor = index
        self._into_view()
        self.post_message(self.Moved(index))

    def _into_view(self) -> None:
        if self._rows and self.size.height:
            self.scroll_to_region(Region(0, self._cursor, max(self.size.width, 1), 1), animate=False, force=True,
                                  immediate=True)

    def render_line(self, y: int) -> Strip:
        """One line: the number, and the row's beginning."""
        index, width = y + round(self.scroll_y), self.size.width
        paper = Style(bgcolor=self.background_colors[1].rich_color)
        if not 0 <= index < len(self._rows):
            return Strip.blank(width, paper)
        row = self._rows[index]
        if index == self._cursor:
            cursor = self.get_component_rich_style("row-list--cursor")
            paper = Style(bgcolor=cursor.bgcolor, reverse=self.app.no_color or None)
        number = self.get_component_rich_style("row-list--number").color
        words = self.get_component_rich_style("row-list--bad").color if row.bad else self.rich_style.color
        ascii = bool(getattr(self.app, "ascii_only", False))
        digits = max(_NUMBER_WIDTH, len(str(self._rows[-1].number)))
        cells = text_cells(row.text.replace("\n", " "), ascii)[:max(width - digits - 2, 0)]
        mark = "!" if row.bad else " "
        return Strip([Segment(f"{row.number:>{digits}}{mark} ", paper + Style(color=number)),
                      Segment("".join(cells), paper + Style(color=words))]).adjust_cell_length(width, paper)
