"""A line chart on Textual's Line API that repaints only the cells that changed."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.color import Color, ColorParseError
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from workbench.tui.widgets.cells import Row, changed_span
from workbench.tui.widgets.chart_frame import compose
from workbench.tui.widgets.chart_model import MOST_SERIES, Ink, Memory, Plot, Series, View
from workbench.tui.widgets.series_bins import Track

__all__ = ["LineChart", "Series"]

_COLORS = ("$accent", "$text-primary", "$text-success", "$text-error", "$foreground", "$text-secondary")
_FAINT = 0.6
"""How far a faint series is blended into the background."""
_REPAINT_ALL_EVERY = 2000
"""Partial repaints between two full ones: Textual remembers each distinct region until then."""
_PAGE = 10
"""Cells a cursor jump covers."""


class LineChart(Widget, can_focus=True):
    """Curves over a common x axis, in braille dots or plain ASCII.

    Data arrive through ``show``. Series are passed whole each time; what was appended since the last call
    is found and drawn at a cost that does not depend on the length of the series. The chart never raises
    on data or size: it shows less when there is less room, down to a single cell.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line-chart--axis",
        "line-chart--label",
        "line-chart--title",
        "line-chart--cursor",
        "line-chart--gap",
    }
    DEFAULT_CSS = """
    LineChart {
        height: 1fr;
        & .line-chart--axis { color: $foreground 30%; }
        & .line-chart--label { color: $foreground 60%; }
        & .line-chart--title { color: $foreground; }
        & .line-chart--cursor { color: $foreground 45%; }
        & .line-chart--gap { color: $error; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move_cursor(-1)", "Cursor left"),
        Binding("right", "move_cursor(1)", "Cursor right"),
        Binding("shift+left", f"move_cursor(-{_PAGE})", "Cursor far left", show=False),
        Binding("shift+right", f"move_cursor({_PAGE})", "Cursor far right", show=False),
        Binding("home", "cursor_to_end(False)", "First point", show=False),
        Binding("end", "cursor_to_end(True)", "Last point", show=False),
        Binding("escape", "remove_cursor", "Remove cursor", show=False),
    ]

    log_scale: reactive[bool] = reactive(False, repaint=False, init=False)
    """Logarithmic y axis; values that are not positive are marked at its foot."""
    ascii: reactive[bool] = reactive(False, repaint=False, init=False)
    """Draw with seven-bit characters only."""
    cursor_x: reactive[float | None] = reactive[float | None](None, repaint=False, init=False)
    """Where the cursor stands on the x axis; the header then shows the values of the nearest points."""

    class CursorMoved(Message):
        """The cursor was moved, or removed (``x`` None)."""

        def __init__(self, chart: "LineChart", x: float | None) -> None:
            super().__init__()
            self.chart = chart
            self.x = x

        @property
        def control(self) -> "LineChart":
            """The chart, for ``@on`` selectors."""
            return self.chart

    def __init__(
        self,
        *,
        title: str = "",
        x_label: str = "",
        empty: str = "No points yet.",
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._view = View(title=title, x_label=x_label, empty=empty)
        self._series: tuple[Series, ...] = ()
        self._memory = Memory()
        self._rows: list[Row] = []
        self._plot: Plot | None = None
        self._drawn_size: Size | None = None
        self._strips: dict[int, Strip] = {}
        self._inks: dict[int, Style] = {}
        self._partial_repaints = 0

    def show(
        self,
        series: Sequence[Series],
        *,
        title: str | None = None,
        x_label: str | None = None,
        empty: str | None = None,
        x_range: tuple[float, float] | None = None,
        x_seconds: bool = False,
    ) -> None:
        """Draw these series; texts that are None stay as they are.

        ``x_range`` fixes the x axis (zoom, or 0 to the last step of the run: the axis then never moves);
        without it the axis takes in every point. ``x_seconds`` labels x as a span of time.
        """
        if [(s.name, s.color, s.faint) for s in series] != [(s.name, s.color, s.faint) for s in self._series]:
            self._memory = Memory([Track() for _ in series])
            self._forget_strips()
        self._series = tuple(series)
        view = self._view
        self._view = replace(
            view,
            title=view.title if title is None else title,
            x_label=view.x_label if x_label is None else x_label,
            empty=view.empty if empty is None else empty,
            x_range=x_range,
            x_seconds=x_seconds,
        )
        self._draw()

    @property
    def text(self) -> str:
        """The chart as it is drawn, without colours."""
        return "\n".join("".join(cells) for cells, _ in self._rows)

    def _compose_frame(self) -> None:
        view = replace(self._view, log_scale=self.log_scale, ascii=self.ascii, cursor_x=self.cursor_x)
        frame = compose(self._series, view, self._memory, *self.size)
        self._rows, self._plot, self._drawn_size = frame.grid.rows, frame.plot, self.size

    def _draw(self) -> None:
        """Compose anew and ask for a repaint of what differs from the last frame."""
        if not self.size:
            return
        old, old_size = self._rows, self._drawn_size
        self._compose_frame()
        self._partial_repaints += 1
        if old_size != self.size or not self._inks or self._partial_repaints >= _REPAINT_ALL_EVERY:
            self._forget_strips()
            self.refresh()
            return
        regions: list[Region] = []
        for y, (before, after) in enumerate(zip(old, self._rows, strict=True)):
            span = changed_span(before, after)
            if span is not None:
                self._strips.pop(y, None)
                regions.append(Region(span[0], y, span[1] - span[0], 1))
        if regions:
            self.refresh(*regions)

    def _forget_strips(self) -> None:
        self._strips.clear()
        self._inks.clear()
        self._partial_repaints = 0

    def render_line(self, y: int) -> Strip:
        """One line of the chart, from the cache while its cells and the theme stay the same."""
        if self._drawn_size != self.size:
            self._compose_frame()
            self._strips.clear()
        if not 0 <= y < len(self._rows):
            return Strip.blank(self.size.width)
        if not self._inks:
            self._inks = self._mix_inks()
        strip = self._strips.get(y)
        if strip is None:
            strip = self._strips[y] = self._strip(self._rows[y])
        return strip

    def _strip(self, row: Row) -> Strip:
        cells, styles = row
        # Blank cells take the style to their left: fewer segments, fewer escape sequences.
        current = next((number for number in styles if number), Ink.NONE)
        numbers = []
        for cell, number in zip(cells, styles, strict=True):
            current = number if cell != " " else current
            numbers.append(current)
        segments = [
            Segment("".join(cells[column] for column, _ in run), self._inks.get(number))
            for number, run in groupby(enumerate(numbers), key=lambda pair: pair[1])
        ]
        return Strip(segments, len(cells))

    def _mix_inks(self) -> dict[int, Style]:
        # Lines drawn by hand get no background from the compositor: without ours the terminal's own would show.
        paper = Style(bgcolor=self.background_colors[1].rich_color)

        def part(name: str) -> Style:
            return paper + Style(color=self.get_component_rich_style(f"line-chart--{name}").color)

        parts = (Ink.AXIS, Ink.LABEL, Ink.TITLE, Ink.CURSOR, Ink.GAP)
        inks = {int(number): part(number.name.lower()) for number in parts}
        for index, series in enumerate(self._series[:MOST_SERIES]):
            color = self._color(series.color or _COLORS[index % len(_COLORS)])
            if series.faint:
                color = color.blend(self.background_colors[1], _FAINT)
            inks[Ink.SERIES + index] = paper + Style(color=color.rich_color)
        inks[Ink.NONE] = paper
        return inks

    def _color(self, name: str) -> Color:
        try:
            return Color.parse(self.app.theme_variables[name[1:]] if name.startswith("$") else name)
        except (ColorParseError, KeyError):
            return self.styles.color

    def notify_style_update(self) -> None:
        """The theme or a style changed: colours are looked up again."""
        self._forget_strips()
        super().notify_style_update()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._draw()

    def watch_log_scale(self) -> None:
        """Redraw."""
        self._draw()

    def watch_ascii(self) -> None:
        """Redraw."""
        self._draw()

    def watch_cursor_x(self, x: float | None) -> None:
        """Redraw and tell."""
        self._draw()
        self.post_message(self.CursorMoved(self, x))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the plot was clicked."""
        offset = event.get_content_offset(self)
        if offset is None or self._plot is None or offset.x < self._plot.left:
            return
        scale, part = self._plot.x.scale, (offset.x - self._plot.left) / max(1, self._plot.width - 1)
        self.cursor_x = self._nearest_x(scale.low + part * (scale.high - scale.low))

    def action_remove_cursor(self) -> None:
        """Remove the cursor; without one the key is left to others."""
        if self.cursor_x is None:
            raise SkipAction
        self.cursor_x = None

    def action_cursor_to_end(self, last: bool) -> None:
        """Put the cursor on the first or the last point in view."""
        if self._plot is None:
            raise SkipAction
        scale = self._plot.x.scale
        self.cursor_x = self._nearest_x(scale.high if last else scale.low)

    def action_move_cursor(self, cells: int) -> None:
        """Move the cursor to the nearest point ``cells`` cells away or more; without one, set it at the end."""
        if self._plot is None:
            raise SkipAction
        if self.cursor_x is None:
            self.action_cursor_to_end(True)
            return
        low, high = self._plot.x.scale.low, self._plot.x.scale.high
        self.cursor_x = self._point_beyond(cells * (high - low) / self._plot.width, low, high)

    def _point_beyond(self, distance: float, low: float, high: float) -> float | None:
        """x of the first point at ``distance`` or more from the cursor, or of the last point that way."""
        assert self.cursor_x is not None
        target = self.cursor_x + distance
        found: list[float] = []
        for track in self._memory.tracks:
            if distance > 0:
                index = bisect_left(track.x, target, 0, track.count)
                found += [x for x in track.x[index : index + 1] if index < track.count and x <= high]
            else:
                index = bisect_right(track.x, target, 0, track.count)
                found += [x for x in track.x[max(0, index - 1) : index] if x >= low]
        if not found:
            return self._nearest_x(high if distance > 0 else low)
        return min(found) if distance > 0 else max(found)

    def _nearest_x(self, x: float) -> float | None:
        points = (track.x[track.nearest(x)] for track in self._memory.tracks if track.count)
        return min(points, key=lambda point: abs(point - x), default=None)
