"""Draws the curves of a line chart as dots, adding to the last frame's canvas what is new."""

from collections.abc import Sequence

from workbench.tui.widgets.canvas import DOTS_X, Canvas, Layer, merge
from workbench.tui.widgets.chart_model import MOST_SERIES, Drawing, Memory, Plot, Series
from workbench.tui.widgets.series_bins import Bins


def draw_curves(plot: Plot, series: Sequence[Series], bins: dict[int, Bins], memory: Memory) -> Layer:
    """The dots of the binned series (by index); the owner of a cell is a series' index + 1."""
    # A curve of few points would be lost among the others' dots: it lies on top, then the first series.
    few = plot.width * DOTS_X // 4
    order = sorted(bins, key=lambda i: (len(bins[i].pieces) < few, -i))
    drawn = [(series[i].faint, _draw(plot, bins[i], memory, i), i % MOST_SERIES + 1) for i in order]
    size = plot.width * plot.height
    solid = merge(((canvas, owner) for faint, canvas, owner in drawn if not faint), size)
    return solid.over(merge(((canvas, owner) for faint, canvas, owner in drawn if faint), size))


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
