"""Draws the curves of a line chart as dots, adding to the last frame's canvas what is new."""

from collections.abc import Sequence
from functools import reduce

from workbench.tui.widgets.canvas import DOTS_X, Canvas, Layer, merge
from workbench.tui.widgets.chart_model import MOST_SERIES, Drawing, Memory, Plot, Series
from workbench.tui.widgets.series_bins import Bins

# Levels from the top; a cell shows one of them. A curve of few points would be lost in a dense one, and the
# dense one's dots in the other's colour would look like its own noise.
_SPARSE, _DENSE, _FAINT = range(3)


def draw_curves(plot: Plot, series: Sequence[Series], bins: dict[int, Bins], memory: Memory) -> Layer:
    """The dots of the binned series (by index); the owner of a cell is a series' index + 1."""
    size, few = plot.width * plot.height, plot.width * DOTS_X // 4
    levels: dict[int, list[tuple[Canvas, int]]] = {_SPARSE: [], _DENSE: [], _FAINT: []}
    for index in reversed(bins):
        level = _FAINT if series[index].faint else _SPARSE if len(bins[index].pieces) < few else _DENSE
        levels[level].append((_draw(plot, bins[index], memory, index), index % MOST_SERIES + 1))
    return reduce(Layer.over, (merge(canvases, size) for canvases in levels.values()))


def _draw(plot: Plot, bins: Bins, memory: Memory, index: int) -> Canvas:
    pieces, drawing = bins.pieces, memory.drawings.get(index)
    start = bins.kept
    # Appended points only ever add dots, except where a lone point may have got a neighbour.
    if drawing is None or drawing.bins is not bins or drawing.plot != plot or drawing.last_lone >= start - 1:
        drawing = memory.drawings[index] = Drawing(plot, bins, Canvas(plot.width, plot.height))
        start = 0
    canvas = drawing.canvas
    column_before, row_before = 0, 0
    if start:
        column_before, row_before = pieces[start - 1].column, plot.dot_row(pieces[start - 1].last)
    for position in range(start, len(pieces)):
        piece = pieces[position]
        first = last = plot.dot_row(piece.first)
        if piece.low != piece.high:
            last = plot.dot_row(piece.last)
            canvas.column(piece.column, plot.dot_row(piece.high), plot.dot_row(piece.low))
        if piece.joined:
            canvas.line(column_before, row_before, piece.column, first)
        elif position + 1 == len(pieces) or not pieces[position + 1].joined:
            # Four dots for a lone point, because a single one is easily overlooked.
            for x in (piece.column // 2 * 2, piece.column // 2 * 2 + 1):
                canvas.column(x, first // 2 * 2, first // 2 * 2 + 1)
            drawing.last_lone = position
        column_before, row_before = piece.column, last
    return canvas
