"""Min-max downsampling of a growing series to dot columns, extended instead of repeated."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from math import exp, isfinite
from math import log as log_
from operator import itemgetter, le

_PROBES = 16
_MAX_RUNS = 4
"""Runs kept apart inside one dot column; beyond that the gaps between them cannot be seen."""


class Mark(Enum):
    """Why a point cannot be drawn."""

    NOT_A_NUMBER = "not a number"
    BELOW = "not positive on a logarithmic axis"


@dataclass(slots=True)
class Piece:
    """An unbroken run of points in one dot column: its ends, its extremes, and whether a line leads to it."""

    column: int
    first: float
    last: float
    low: float
    high: float
    joined: bool


@dataclass(slots=True)
class Bins:
    """A series as pieces in ascending columns, and the columns with points that cannot be drawn.

    ``kept`` is how many of the first pieces the last call left as they were.
    """

    pieces: list[Piece] = field(default_factory=list)
    marks: dict[int, Mark] = field(default_factory=dict)
    kept: int = 0


class Track:
    """One series between frames: its points in ascending x, and its bins for the last window asked for.

    ``feed`` takes the whole series every time and notices what was appended by comparing a few points of
    the part it knows; any other change starts over. Points whose x is not finite are left out.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.x: Sequence[float] = ()
        self.y: Sequence[float] = ()
        self.count = 0
        self._fed = 0
        self._probes: list[tuple[int, float, float]] = []
        self._ordered = True
        self._window: tuple[float, float, int, bool] | None = None
        self._edges: list[float] = []
        self._bins = Bins()
        self._binned = 0

    def feed(self, x: Sequence[float], y: Sequence[float]) -> None:
        """Take the series; ``x`` and ``y`` may be of unequal length while they are being appended to."""
        count = min(len(x), len(y))
        if count < self._fed or not all(_same(x[i], a) and _same(y[i], b) for i, a, b in self._probes):
            self._reset()
        if self._ordered:
            fresh = x[max(0, self._fed - 1) : count]
            self._ordered = isfinite(sum(fresh)) and all(map(le, fresh, islice(fresh, 1, None)))
        if self._ordered:
            self.x, self.y, self.count = x, y, count
        elif count != self._fed:
            pairs = [(a, b) for a, b in zip(x, y, strict=False) if isfinite(a)]
            pairs.sort(key=itemgetter(0))
            self.x, self.y = array("d", [a for a, _ in pairs]), array("d", [b for _, b in pairs])
            self.count = len(pairs)
            self._window = None
        self._fed = count
        known = {*range(0, count, max(1, count // _PROBES)), *range(max(0, count - 1), count)}
        self._probes = [(i, x[i], y[i]) for i in sorted(known)]

    def nearest(self, x: float) -> int:
        """Index of the point closest to ``x``; the series must not be empty."""
        right = bisect_left(self.x, x, 0, self.count)
        if right == 0:
            return 0
        if right == self.count or x - self.x[right - 1] <= self.x[right] - x:
            return right - 1
        return right

    def bins(self, low: float, high: float, columns: int, log: bool) -> Bins:
        """The points with ``low`` <= x <= ``high`` in ``columns`` dot columns, and the line across both ends.

        The first column is centred on ``low``, the last on ``high``. The result belongs to the track: the next
        call extends it, or returns another one if more has changed than points at the end.
        """
        window = (low, high, columns, log)
        start = self._resume() if window == self._window else None
        if start is None:
            self._window, self._bins = window, Bins()
            width = (high - low) / max(1, columns - 1)
            self._edges = [low + (column + 0.5) * width for column in range(columns - 1)]
            start = bisect_left(self.x, low, 0, self.count)
            self._cross(start, low, 0, log)
        else:
            self._bins.kept = len(self._bins.pieces)
        end = bisect_right(self.x, high, start, self.count)
        self._bin(start, end, log)
        self._cross(end, high, columns - 1, log)
        self._binned = self.count
        return self._bins

    def _resume(self) -> int | None:
        """Forget the column of the last binned point; the index where it starts, None to bin everything."""
        if self._binned == 0:
            return None
        column = bisect_right(self._edges, self.x[self._binned - 1])
        if column == 0:
            return None
        pieces = self._bins.pieces
        while pieces and pieces[-1].column >= column:
            pieces.pop()
        return bisect_left(self.x, self._edges[column - 1], 0, self._binned)

    def _bin(self, start: int, end: int, log: bool) -> None:
        pieces, marks, edges, x, y = self._bins.pieces, self._bins.marks, self._edges, self.x, self.y
        while start < end:
            column = bisect_right(edges, x[start])
            stop = bisect_left(x, edges[column], start, end) if column < len(edges) else end
            joined = bool(pieces) and _mark(y[start - 1], log) is None
            chunk = list(y[start:stop])
            low = min(chunk)
            # A sum is finite only if every term is: one pass in C instead of a test per point.
            if isfinite(sum(chunk)) and (low > 0 or not log):
                pieces.append(Piece(column, chunk[0], chunk[-1], low, max(chunk), joined))
            else:
                runs, mark = _runs(chunk, column, log)
                if runs and _mark(chunk[0], log) is None:
                    runs[0].joined = joined
                pieces.extend(runs)
                if mark is not None:
                    marks[column] = mark
            start = stop

    def _cross(self, index: int, at: float, column: int, log: bool) -> None:
        """Where the line from point ``index`` - 1 to point ``index`` crosses x = ``at``, add that place."""
        if not 0 < index < self.count:
            return
        (x0, x1), (y0, y1) = self.x[index - 1 : index + 1], self.y[index - 1 : index + 1]
        if _mark(y0, log) is None and _mark(y1, log) is None:
            part = (at - x0) / (x1 - x0)
            y = exp(log_(y0) * (1 - part) + log_(y1) * part) if log else y0 * (1 - part) + y1 * part
            self._bins.pieces.append(Piece(column, y, y, y, y, bool(self._bins.pieces)))


def _same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)


def _mark(value: float, log: bool) -> Mark | None:
    if not isfinite(value):
        return Mark.NOT_A_NUMBER
    return Mark.BELOW if log and value <= 0 else None


def _runs(chunk: Sequence[float], column: int, log: bool) -> tuple[list[Piece], Mark | None]:
    """The unbroken runs of a chunk, none joined, and the gravest mark between them."""
    runs: list[Piece] = []
    found: Mark | None = None
    open_run = False
    for value in chunk:
        mark = _mark(value, log)
        if mark is not None:
            found = mark if found is not Mark.NOT_A_NUMBER else found
            open_run = False
        elif open_run:
            run = runs[-1]
            run.last, run.low, run.high = value, min(run.low, value), max(run.high, value)
        else:
            runs.append(Piece(column, value, value, value, value, False))
            open_run = True
    if len(runs) > _MAX_RUNS:
        low, high = min(run.low for run in runs), max(run.high for run in runs)
        runs = [Piece(column, runs[0].first, runs[-1].last, low, high, False)]
    return runs, found
