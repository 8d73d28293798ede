"""Makes partial screen updates send only the columns that changed."""

from rich.console import Console, RenderableType
from rich.control import Control
from textual._compositor import ChopsUpdate
from textual.app import App
from textual.screen import Screen


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
                    part = strip.crop(start - x, min(end, x2) - x)
                    sequences += Control.move_to(start, y).segment.text, part.render(console)
        return "".join(sequences)


class SpanApp(App[None]):
    """An application whose partial updates are trimmed. Touches private API: the tests fail if it moves."""

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        if type(renderable) is ChopsUpdate:
            renderable = TrimmedUpdate(renderable.chops, renderable.spans, renderable.chop_ends)
        super()._display(screen, renderable)
