"""An explanation on screen: section by section, paragraphs wrapped, tables cut at the edge."""

from collections.abc import Iterator

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from workbench.engine.explain.document import Bars, Explanation, Part, Table, to_ascii

_MUTED = "$foreground 55%"
_BAR = 32


class ExplanationView(VerticalScroll):
    """Scrolls with the arrow and page keys; `show` replaces what is shown and goes back to the top."""

    DEFAULT_CSS = """
    ExplanationView {
        height: 1fr; background: $surface; padding-right: 1;
        scrollbar-size-vertical: 1; scrollbar-background: $surface; scrollbar-color: $border;
    }
    ExplanationView Static { height: auto; }
    ExplanationView .table { text-wrap: nowrap; text-overflow: ellipsis; padding-left: 2; }
    ExplanationView .paragraph { padding-left: 2; color: $foreground 85%; }
    ExplanationView .title { margin-top: 1; text-style: bold; color: $primary; }
    ExplanationView .title.first { margin-top: 0; }
    """

    def show(self, explanation: Explanation, ascii: bool = False) -> None:
        """Show another explanation."""
        self.remove_children()
        self.mount_all(_widgets(explanation, ascii))
        self.scroll_home(animate=False)


def _widgets(explanation: Explanation, ascii: bool) -> Iterator[Static]:
    for index, section in enumerate(explanation.sections):
        yield Static(_text(section.title, ascii), markup=False, classes="title first" if index == 0 else "title")
        for part in section.parts:
            kind = "paragraph" if isinstance(part, str) else "table"
            yield Static(_part(part, ascii), markup=False, classes=kind)


def _part(part: Part, ascii: bool) -> Content:
    if isinstance(part, Table):
        return _table(part, ascii)
    if isinstance(part, Bars):
        return _bars(part, ascii)
    return Content(_text(part, ascii))


def _table(table: Table, ascii: bool) -> Content:
    rows = [[_text(cell, ascii) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    lines = ["  ".join(cell.rjust(width) if column in table.right else cell.ljust(width)
                       for column, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows]
    return Content("\n").join([Content.styled(lines[0], _MUTED), *map(Content, lines[1:])])


def _bars(bars: Bars, ascii: bool) -> Content:
    most = max(*bars.counts, 1)
    width = max(map(len, bars.labels))
    return Content("\n").join(
        Content.assemble((f"{_text(label, ascii):>{width}} ", _MUTED),
                         (("#" if ascii else "█") * round(number / most * _BAR), "$primary"), (f" {number:,}", _MUTED))
        for label, number in zip(bars.labels, bars.counts, strict=True))


def _text(text: str, ascii: bool) -> str:
    return to_ascii(text) if ascii else text
