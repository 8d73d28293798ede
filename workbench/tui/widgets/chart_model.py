"""What a line chart is made of: series, view, glyphs, style numbers, the plot's geometry."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from workbench.tui.widgets.axis import Axis
from workbench.tui.widgets.canvas import ASCII, BRAILLE, DOTS_X, DOTS_Y, Canvas
from workbench.tui.widgets.cells import Grid
from workbench.tui.widgets.series_bins import Bins, Track


@dataclass(frozen=True)
class Series:
    """One curve. ``y`` may hold NaN and infinities: they break the line and are marked.

    ``color`` is a Textual colour, ``$name`` of the theme, or empty for one chosen by position.
    ``faint`` draws it paler and beneath the others: raw values under their smoothed curve.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = ""
    faint: bool = False


@dataclass(frozen=True)
class View:
    """How the series are to be shown; ``x_range`` None takes in every point."""

    title: str = ""
    x_label: str = ""
    empty: str = ""
    x_range: tuple[float, float] | None = None
    x_seconds: bool = False
    log_scale: bool = False
    ascii: bool = False
    cursor_x: float | None = None


class Ink(IntEnum):
    """Style numbers; series ``i`` has number ``SERIES + i``."""

    NONE = 0
    AXIS = 1
    LABEL = 2
    TITLE = 3
    CURSOR = 4
    GAP = 5
    SERIES = 6


MOST_SERIES = 240
"""Style numbers are bytes; further series share the numbers of the first."""


class Glyphs(NamedTuple):
    """The characters a chart is drawn with."""

    dots: tuple[str, ...]
    axis: str
    axis_tick: str
    corner: str
    base: str
    base_tick: str
    cursor: str
    bullet: str
    gap: str
    below: str
    nothing: str


UNICODE_GLYPHS = Glyphs(BRAILLE, "│", "┤", "└", "─", "┬", "│", "●", "×", "↓", "·")
ASCII_GLYPHS = Glyphs(ASCII, "|", "+", "+", "-", "+", "|", "*", "x", "v", ".")


@dataclass(frozen=True)
class Plot:
    """Where the curves lie, in cells, and the axes they lie on."""

    left: int
    top: int
    width: int
    height: int
    x: Axis
    y: Axis

    def column(self, value: float) -> int:
        """Cell column of an x value, counted from the left edge of the chart."""
        return self.left + round(self.x.scale.fraction(value) * (self.width * DOTS_X - 1)) // DOTS_X

    def row(self, value: float) -> int:
        """Cell row of a y value, counted from the top edge of the chart."""
        return self.top + self.dot_row(value) // DOTS_Y

    def dot_row(self, value: float) -> int:
        """Dot row of a y value, counted from the top edge of the plot."""
        return round((1 - self.y.scale.fraction(value)) * (self.height * DOTS_Y - 1))


@dataclass
class Drawing:
    """The dots of one series: drawn from ``bins`` onto ``plot``, ``last_lone`` its last unconnected piece."""

    plot: Plot
    bins: Bins
    canvas: Canvas
    last_lone: int = -1


@dataclass
class Memory:
    """What a chart keeps from one frame to the next; tracks and drawings belong to the series by index."""

    tracks: list[Track] = field(default_factory=list)
    drawings: dict[int, Drawing] = field(default_factory=dict)
    label_width: int = 4


@dataclass(frozen=True)
class Frame:
    """A drawn chart; ``plot`` is None where there is no room or nothing to plot."""

    grid: Grid
    plot: Plot | None = None


def ink(index: int) -> int:
    """Style number of a series."""
    return Ink.SERIES + index % MOST_SERIES
