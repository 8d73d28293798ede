"""What goes to the terminal: of partial updates only the columns that changed, and of text nothing that it obeys."""

import re

from rich.console import Console, RenderableType
from rich.control import Control
from rich.segment import Segment
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import App
from textual.screen import Screen
from textual.strip import Strip

# Control characters, halves of characters and overrides of direction: none has a width, so none is missed.
_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def as_text(strip: Strip) -> Strip:
    """The strip without what a terminal would obey. Widgets make such text visible; this is for what one forgot, and
    for what is typed or pasted into a field."""
    if all(segment.text.isprintable() for segment in strip):
        return strip
    return Strip([Segment(_OBEYED.sub("", text), style) for text, style, _ in strip], strip.cell_length)


class TextUpdate(LayoutUpdate):
    """An update of a whole region."""

    def render_segments(self, console: Console) -> str:
        """The escape sequences and text to write to the terminal."""
        lines = [f"{Control.move_to(self.region.x, y).segment.text}{''.join(as_text(s).render(console) for s in line)}"
                 for y, line in enumerate(self.strips, self.region.y)]
        return "\n".join(lines)


class TrimmedUpdate(ChopsUpdate):
    """A partial update cut at both ends of each span.

    Textual 8.2 cuts on the right only: what it sends starts at the left edge of the widget, once per span.
    """

    def render_segments(self, console: Console) -> str:
        """The escape sequences and text to write to the terminal."""
        sequences: list[str] = []
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=True):
                if strip is not None and x < x2 and end > x1:
                    start = max(x, x1)
                    part = as_text(strip.crop(start - x, min(end, x2) - x))
                    sequences += Control.move_to(start, y).segment.text, part.render(console)
        return "".join(sequences)


class SpanApp(App[None]):
    """An application that writes through these updates. Touches private API: the tests fail if it moves."""

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        if type(renderable) is ChopsUpdate:
            renderable = TrimmedUpdate(renderable.chops, renderable.spans, renderable.chop_ends)
        elif type(renderable) is LayoutUpdate:
            renderable = TextUpdate(renderable.strips, renderable.region)
        super()._display(screen, renderable)
