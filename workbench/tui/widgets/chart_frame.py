"""Composes a line chart into a grid of cells: header, y axis, curves, x axis. Knows nothing of Textual."""

from collections.abc import Sequence

from workbench.tui.widgets.axis import bounds, format_seconds, format_value, linear_axis, log_axis
from workbench.tui.widgets.canvas import DOTS_X
from workbench.tui.widgets.cells import Grid, text_cells
from workbench.tui.widgets.chart_curves import draw_curves
from workbench.tui.widgets.chart_model import (
    ASCII_GLYPHS,
    UNICODE_GLYPHS,
    Frame,
    Glyphs,
    Ink,
    Memory,
    Plot,
    Series,
    View,
    ink,
)
from workbench.tui.widgets.series_bins import Bins, Mark, Track

SMALLEST = (12, 4)
"""Width and height in cells below which only the last values are shown."""
_AXIS_LINE_FROM = 8
"""Height in cells from which the x axis has a line of its own."""
_MARK_ROW_FROM = 5
"""Height of the plot in cells from which NaN marks have a row of their own."""


_INKS = bytes(owner and ink(owner - 1) for owner in range(256))
"""Style number of each owner of a cell of the canvas: nobody, or the series' number + 1."""


def compose(series: Sequence[Series], view: View, memory: Memory, width: int, height: int) -> Frame:
    """Draw the chart into ``width`` x ``height`` cells; ``memory.tracks`` follow ``series`` one by one."""
    grid = Grid(width, height)
    glyphs = ASCII_GLYPHS if view.ascii else UNICODE_GLYPHS
    for track, one in zip(memory.tracks, series, strict=True):
        track.feed(one.x, one.y)
    shown = [i for i, track in enumerate(memory.tracks) if track.count]
    if not shown:
        _put_sentence(grid, text_cells(view.empty, view.ascii))
    elif width < SMALLEST[0] or height < SMALLEST[1]:
        _put_last_values(grid, memory, shown, glyphs)
    else:
        plot, bins = _lay_out(view, memory, shown, width, height)
        _put_axes(grid, plot, view, glyphs)
        _put_curves(grid, plot, series, bins, memory, glyphs)
        _put_cursor(grid, plot, view, glyphs)
        _put_header(grid, series, view, memory, shown, glyphs)
        return Frame(grid, plot)
    return Frame(grid)


def _put_sentence(grid: Grid, cells: list[str]) -> None:
    cells = cells[: grid.width]
    grid.put((grid.width - len(cells)) // 2, max(0, (grid.height - 1) // 2), cells, Ink.LABEL)


def _put_last_values(grid: Grid, memory: Memory, shown: list[int], glyphs: Glyphs) -> None:
    for row, index in enumerate(shown):
        track = memory.tracks[index]
        value = track.y[track.count - 1]
        texts = [format_value(value, digits) for digits in (4, 3, 2, 1)]
        # A number is left out rather than cut: "2" for 2345 would be a wrong value.
        text = next((text for text in texts if len(text) <= grid.width), glyphs.nothing)
        grid.put(0, row, text, ink(index))


def _lay_out(view: View, memory: Memory, shown: list[int], width: int, height: int) -> tuple[Plot, dict[int, Bins]]:
    tracks = {index: memory.tracks[index] for index in shown}
    full = bounds(end for t in tracks.values() for end in (t.x[0], t.x[t.count - 1]))
    low, high = bounds(view.x_range) if view.x_range else full
    while True:
        left = memory.label_width + (2 if width >= 24 else 1)
        left = left if left <= width // 2 else 0
        plot_width = width - left
        x_axis = linear_axis(low, high, plot_width // 10, exact=view.x_range is not None, clock=view.x_seconds)
        window = (x_axis.scale.low, x_axis.scale.high, plot_width * DOTS_X, view.log_scale)
        bins = {index: track.bins(*window) for index, track in tracks.items()}
        marked = any(mark is Mark.NOT_A_NUMBER for b in bins.values() for mark in b.marks.values())
        plot_height = height - (3 if height >= _AXIS_LINE_FROM else 2)
        top = 2 if marked and plot_height >= _MARK_ROW_FROM else 1
        plot_height -= top - 1
        ends = (end for b in bins.values() for piece in b.pieces for end in (piece.low, piece.high))
        y_bounds, intervals = bounds(ends, view.log_scale), max(1, plot_height // 3)
        y_axis = log_axis(*y_bounds, intervals) if view.log_scale else linear_axis(*y_bounds, intervals)
        needed = max([4, *(len(label) for label in y_axis.labels)])
        if needed == memory.label_width:
            return Plot(left, top, plot_width, plot_height, x_axis, y_axis), bins
        # The y axis does not depend on the plot's width, so the second round settles it.
        memory.label_width = needed


def _put_axes(grid: Grid, plot: Plot, view: View, glyphs: Glyphs) -> None:
    bottom = plot.top + plot.height
    if plot.left:
        for row in range(1, bottom):
            grid.put(plot.left - 1, row, glyphs.axis, Ink.AXIS)
        taken: set[int] = set()
        for value, label in zip(plot.y.ticks, plot.y.labels, strict=True):
            row = plot.row(value)
            if row not in taken:
                taken.add(row)
                grid.put(plot.left - 1, row, glyphs.axis_tick, Ink.AXIS)
                gap = 2 if plot.left - 1 > len(label) else 1
                grid.put(plot.left - gap - len(label), row, label, Ink.LABEL)
    ticks = [plot.column(value) for value in plot.x.ticks]
    if bottom == grid.height - 2:
        corner = glyphs.corner if plot.left else ""
        grid.put(max(0, plot.left - 1), bottom, corner + glyphs.base * plot.width, Ink.AXIS)
        for column in ticks:
            grid.put(column, bottom, glyphs.base_tick, Ink.AXIS)
    _put_x_labels(grid, plot, ticks, view)


def _put_x_labels(grid: Grid, plot: Plot, ticks: list[int], view: View) -> None:
    row = grid.height - 1
    free_from, free_to = 0, grid.width
    name = text_cells(view.x_label, view.ascii)
    starts = [min(c - len(s) // 2, grid.width - len(s)) for c, s in zip(ticks, plot.x.labels, strict=True)]
    if name and len(name) + 1 < min([max(0, start) for start in starts], default=grid.width):
        grid.put(0, row, name, Ink.LABEL)
        free_from = len(name) + 1
    elif name and len(name) <= plot.width // 4:
        free_to = grid.width - len(name) - 2
        grid.put(free_to + 2, row, name, Ink.LABEL)
    for start, label in zip(starts, plot.x.labels, strict=True):
        start = max(start, 0)
        if free_from <= start and start + len(label) <= free_to:
            grid.put(start, row, label, Ink.LABEL)
            free_from = start + len(label) + 2


def _put_curves(
    grid: Grid, plot: Plot, series: Sequence[Series], bins: dict[int, Bins], memory: Memory, glyphs: Glyphs
) -> None:
    layer = draw_curves(plot, series, bins, memory)
    columns = slice(plot.left, plot.left + plot.width)
    for row, text in enumerate(layer.text(plot.width, glyphs.dots)):
        cells, styles = grid.rows[plot.top + row]
        cells[columns] = text
        styles[columns] = layer.owners[row * plot.width : (row + 1) * plot.width].translate(_INKS)
    for one in bins.values():
        for column, mark in one.marks.items():
            row = 1 if mark is Mark.NOT_A_NUMBER else plot.top + plot.height - 1
            glyph = glyphs.gap if mark is Mark.NOT_A_NUMBER else glyphs.below
            grid.put(plot.left + column // DOTS_X, row, glyph, Ink.GAP)


def _put_cursor(grid: Grid, plot: Plot, view: View, glyphs: Glyphs) -> None:
    if view.cursor_x is None or not plot.x.scale.low <= view.cursor_x <= plot.x.scale.high:
        return
    column = plot.column(view.cursor_x)
    for row in range(1, plot.top + plot.height):
        if grid.rows[row][0][column] == " ":
            grid.put(column, row, glyphs.cursor, Ink.CURSOR)


def _put_header(
    grid: Grid, series: Sequence[Series], view: View, memory: Memory, shown: list[int], glyphs: Glyphs
) -> None:
    """Title on the left, legend on the right; the legend gives way last, its names before its values."""
    values = {i: _legend_value(memory.tracks[i], view) for i in shown}
    named = {i: text_cells(f"{series[i].name} {values[i]}".strip(), view.ascii) for i in shown}
    title = text_cells(view.title, view.ascii)
    if view.cursor_x is not None:
        at = format_seconds(view.cursor_x) if view.x_seconds else format_value(view.cursor_x, 6)
        title = text_cells(f"{view.x_label or 'x'} {at}", view.ascii)
    bare = {i: text_cells(values[i], view.ascii) for i in shown}
    room = grid.width - len(title) - 2 if title else grid.width
    for entries, space in ((named, room), (bare, room), (named, grid.width), (bare, grid.width)):
        count = _fitting(list(entries.values()), space)
        if count:
            if space == room:
                grid.put(0, 0, title, Ink.TITLE)
            _put_legend(grid, entries, count, glyphs)
            return
    grid.put(0, 0, title[: grid.width], Ink.TITLE)


def _fitting(entries: list[list[str]], space: int) -> int:
    """How many entries, each after a bullet and a space and two apart, go into ``space`` cells."""
    used, count = 0, 0
    for count, cells in enumerate(entries):
        used += len(cells) + (4 if count else 2)
        more = len(entries) - count - 1
        if used + (len(f"  +{more}") if more else 0) > space:
            return count
    return count + 1


def _put_legend(grid: Grid, entries: dict[int, list[str]], count: int, glyphs: Glyphs) -> None:
    more = len(entries) - count
    tail = f"  +{more}" if more else ""
    listed = list(entries.items())[:count]
    column = grid.width - len(tail) - sum(len(cells) + 2 for _, cells in listed) - 2 * (count - 1)
    for index, cells in listed:
        grid.put(column, 0, [glyphs.bullet, " ", *cells], ink(index))
        column += len(cells) + 4
    grid.put(grid.width - len(tail), 0, tail, Ink.LABEL)


def _legend_value(track: Track, view: View) -> str:
    """The last value, or at the cursor the value of the nearest point and, if it lies elsewhere, where."""
    if view.cursor_x is None:
        return format_value(track.y[track.count - 1])
    index = track.nearest(view.cursor_x)
    value = format_value(track.y[index], 6)
    if track.x[index] == view.cursor_x:
        return value
    at = format_seconds(track.x[index]) if view.x_seconds else format_value(track.x[index], 6)
    return f"{value} @{at}"
