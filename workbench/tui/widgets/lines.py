"""Rows of text that are sent to the terminal only where they changed."""

from textual.app import RenderResult
from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget

FILLED, EMPTY = "━", "─"
ASCII_FILLED, ASCII_EMPTY = "=", "-"


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
        """Repaint the lines that differ from the last ones; lay out anew when there are more or fewer."""
        before, self._drawn = self._drawn, self._fresh_lines()
        if len(before) != len(self._drawn):
            self.refresh(layout=True)
            return
        changed = [y for y, (old, new) in enumerate(zip(before, self._drawn, strict=True)) if not old.is_same(new)]
        if changed:
            self.refresh(*(Region(0, y, self.content_size.width, 1) for y in changed))

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


def bar(fraction: float, width: int, style: str = "$primary", ascii: bool = False) -> Content:
    """A bar of `width` cells, filled to `fraction` (0 to 1)."""
    width = max(width, 0)
    filled = round(min(max(fraction, 0.0), 1.0) * width)
    full, empty = (ASCII_FILLED, ASCII_EMPTY) if ascii else (FILLED, EMPTY)
    return Content.assemble((full * filled, style), (empty * (width - filled), "$foreground 20%"))
