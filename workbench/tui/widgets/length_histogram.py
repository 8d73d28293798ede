"""How long the rows are, in tokens: bars over lengths, with the place where `max_length` cuts."""

from bisect import bisect_left
from collections.abc import Sequence

from textual.content import Content

from workbench.engine.figures import count
from workbench.tui.widgets.lines import Lines

HEIGHT = 5
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_MUTED = "$foreground 50%"


class LengthHistogram(Lines):
    """Bars of rows by their length. Nothing at all until there are lengths."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets: tuple[tuple[int, int], ...] = ()
        self._max_length = 0

    def show(self, buckets: Sequence[Sequence[int]], max_length: int) -> None:
        """`buckets`: (largest length of the bucket in tokens, rows), from the shortest to the longest."""
        self._buckets, self._max_length = tuple((int(bound), int(rows)) for bound, rows in buckets), max_length
        self.redraw()

    def compose_lines(self, width: int) -> list[Content]:
        """The bars, the axis, its labels."""
        return histogram_lines(self._buckets, self._max_length, width, self.ascii) if self._buckets else []


def histogram_lines(buckets: Sequence[tuple[int, int]], max_length: int, width: int, ascii: bool) -> list[Content]:
    """`HEIGHT` lines of bars and two of axis, at most `width` cells wide."""
    each = max(min((width - 1) // len(buckets), 6), 1)
    shown = buckets[:max(width - 1, 1) // each]
    most = max(rows for _, rows in shown) or 1
    # The first bucket that holds rows which are cut.
    cut = bisect_left([bound for bound, _ in shown], max_length + 1)
    lines = []
    for level in range(HEIGHT - 1, -1, -1):
        parts: list[tuple[str, str]] = []
        for place, (_, rows) in enumerate(shown):
            if place == cut:
                parts.append(("|" if ascii else "┊", "$warning"))
            parts.append((_cell(rows, most, level, ascii) * max(each - 1, 1) + " " * (each > 1),
                          "$error" if place >= cut else "$primary"))
        lines.append(Content.assemble(*parts))
    return [*lines, *_axis(shown, cut, each, max_length, ascii)]


def _cell(rows: int, most: int, level: int, ascii: bool) -> str:
    # A single row among thousands is still a row: it shows.
    eighths = max(round(rows / most * HEIGHT * 8), 1) if rows else 0
    filled = min(max(eighths - level * 8, 0), 8)
    return ("#" if filled >= 4 or (level == 0 and filled) else " ") if ascii else _EIGHTHS[filled]


def _axis(buckets: Sequence[tuple[int, int]], cut: int, each: int, max_length: int, ascii: bool) -> list[Content]:
    width = each * len(buckets) + (cut < len(buckets))
    marked = cut < len(buckets)
    at = cut * each
    line = list(("-" if ascii else "─") * width)
    if marked:
        line[at] = "+" if ascii else "┴"
    last = count(buckets[-1][0])
    labels = [" "] * max(width, 30)
    _write(labels, 0, "1")
    _write(labels, max(width - len(last), 2), last)
    words = f"max_length {count(max_length)}"
    if marked:
        place = min(max(at - len(words) // 2, 2), max(width - len(last) - len(words) - 1, 2))
        _write(labels, place, words)
    return [Content.styled("".join(line), _MUTED),
            Content.styled("".join(labels).rstrip(), "$warning" if marked else _MUTED)]


def _write(cells: list[str], place: int, text: str) -> None:
    cells[place:place + len(text)] = text
