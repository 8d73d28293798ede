"""Rows of text that are sent to the terminal only where they changed."""

import textwrap

from textual.app import RenderResult
from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget

FILLED, EMPTY = "━", "─"
ASCII_FILLED, ASCII_EMPTY = "=", "-"

# Moving the cursor and setting the colours anew costs about as many bytes as this many cells.
_JOIN = 16


class Lines(Widget):
    """A widget of whole lines; subclasses give `compose_lines` and call `redraw` when what they show has changed."""

    DEFAULT_CSS = "Lines { height: auto; }"

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._drawn: list[Content] = []

    def compose_lines(self, width: int) -> list[Content]:
        """The lines for a width in cells. Their number may not depend on the width."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Repaint the cells that differ from the last ones; lay out anew when there are more or fewer lines."""
        before, self._drawn = self._drawn, self._fresh_lines()
        if len(before) != len(self._drawn):
            self.refresh(layout=True)
            return
        changed = [Region(start, y, end - start, 1)
                   for y, (old, new) in enumerate(zip(before, self._drawn, strict=True))
                   for start, end in changed_spans(old, new, self.content_size.width)]
        if changed:
            self.refresh(*changed)

    def render(self) -> RenderResult:
        """The lines for the width there is."""
        self._drawn = self._fresh_lines()
        return Content("\n").join(self._drawn)

    def _fresh_lines(self) -> list[Content]:
        width = self.content_size.width or self.size.width
        return [line.truncate(width) for line in self.compose_lines(width)]

    @property
    def ascii(self) -> bool:
        """Whether the terminal can show seven-bit characters only."""
        return bool(getattr(self.app, "ascii_only", False))


def changed_spans(old: Content, new: Content, width: int) -> list[tuple[int, int]]:
    """The cells [start, end) in which two lines of `width` cells differ, near ones joined."""
    if old.is_same(new):
        return []
    styles = [[span.style for span in line.spans] for line in (old, new)]
    wide = any(line.cell_length != len(line.plain) for line in (old, new))
    if wide or styles[0] != styles[1]:
        return [(0, width)]
    # What was drawn for another width is longer or shorter.
    width = max(width, len(old.plain), len(new.plain))
    spans: list[tuple[int, int]] = []
    for cell, (before, after) in enumerate(zip(old.plain.ljust(width), new.plain.ljust(width), strict=True)):
        if before == after:
            continue
        if spans and cell - spans[-1][1] < _JOIN:
            spans[-1] = (spans[-1][0], cell + 1)
        else:
            spans.append((cell, cell + 1))
    return spans


def wrapped(head: str, text: str, width: int, head_style: str, style: str) -> list[Content]:
    """A text over as many lines as it takes, under its own beginning, with `head` before the first."""
    room = max(width - len(head), 10)
    parts = textwrap.wrap(text, room) or [""]
    return [Content.assemble((head if index == 0 else " " * len(head), head_style), (part, style))
            for index, part in enumerate(parts)]


def bar(fraction: float, width: int, style: str = "$primary", ascii: bool = False) -> Content:
    """A bar of `width` cells, filled to `fraction` (0 to 1)."""
    width = max(width, 0)
    filled = round(min(max(fraction, 0.0), 1.0) * width)
    full, empty = (ASCII_FILLED, ASCII_EMPTY) if ascii else (FILLED, EMPTY)
    return Content.assemble((full * filled, style), (empty * (width - filled), "$foreground 20%"))
