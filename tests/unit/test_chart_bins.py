"""Downsampling: extremes and gaps survive, and extending gives what starting over gives."""

import math
import random
from array import array
from typing import Any

from workbench.tui.widgets.series_bins import Bins, Mark, Track

NAN = math.nan


def bins(x: list[float], y: list[float], low: float, high: float, columns: int, log: bool = False) -> Bins:
    track = Track()
    track.feed(x, y)
    return track.bins(low, high, columns, log)


def test_a_single_spike_in_a_million_points_survives() -> None:
    y = array("d", [1.0]) * 1_000_000
    y[654_321], y[654_400] = 50.0, -50.0
    x = array("d", range(len(y)))
    track = Track()
    track.feed(x, y)
    pieces = track.bins(0, len(y) - 1, 200, False).pieces
    assert len(pieces) == 200
    assert max(p.high for p in pieces) == 50.0
    assert min(p.low for p in pieces) == -50.0
    assert sum(p.low != p.high for p in pieces) == 1


def test_every_column_has_the_extremes_of_its_points() -> None:
    rng = random.Random(3)
    y = [rng.gauss(0, 1) for _ in range(5000)]
    pieces = bins(list(range(5000)), y, 0, 4999, 50).pieces
    for piece in pieces:
        mine = [v for i, v in enumerate(y) if math.floor(i / 4999 * 49 + 0.5) == piece.column]
        assert (piece.low, piece.high, piece.first, piece.last) == (min(mine), max(mine), mine[0], mine[-1])


def test_nan_breaks_the_line_and_is_marked_but_does_not_count() -> None:
    found = bins([0, 1, 2, 3, 4], [1.0, 2.0, NAN, 9.0, math.inf], 0, 4, 5)
    assert [(p.column, p.low, p.joined) for p in found.pieces] == [(0, 1.0, False), (1, 2.0, True), (3, 9.0, False)]
    assert found.marks == {2: Mark.NOT_A_NUMBER, 4: Mark.NOT_A_NUMBER}


def test_a_gap_inside_one_column_is_kept() -> None:
    found = bins([0, 1, 2, 3, 1000], [1.0, 1.5, NAN, 5.0, 5.0], 0, 1000, 10)
    assert [(p.column, p.low, p.high, p.joined) for p in found.pieces] == [
        (0, 1.0, 1.5, False),
        (0, 5.0, 5.0, False),
        (9, 5.0, 5.0, True),
    ]


def test_what_is_not_positive_has_no_place_on_a_logarithmic_axis() -> None:
    found = bins([0, 1, 2], [0.0, 1.0, -2.0], 0, 2, 3, log=True)
    assert [p.column for p in found.pieces] == [1]
    assert found.marks == {0: Mark.BELOW, 2: Mark.BELOW}


def test_zoomed_in_between_two_points_the_line_crosses_the_window() -> None:
    found = bins([0, 100], [0.0, 10.0], 40, 60, 21)
    assert [(p.column, round(p.low, 9), p.joined) for p in found.pieces] == [(0, 4.0, False), (20, 6.0, True)]
    assert bins([0, 100], [0.0, NAN], 40, 60, 21).pieces == []


def test_points_out_of_order_are_sorted() -> None:
    found = bins([3, 1, 2, NAN], [30.0, 10.0, 20.0, 99.0], 1, 3, 3)
    assert [p.low for p in found.pieces] == [10.0, 20.0, 30.0]


def test_growing_piecemeal_equals_starting_over() -> None:
    rng = random.Random(5)
    for trial in range(30):
        x, y = array("d"), array("d")
        track, log = Track(), trial % 3 == 0
        while len(x) < 300:
            for _ in range(rng.choice((1, 1, 7, 60))):
                x.append((x[-1] if x else 0) + rng.choice((0, 1, 1, 2)))
                y.append(rng.choice((rng.gauss(0, 1), rng.gauss(0, 1), NAN, 0.5)))
            window = (50.0, 250.0) if trial % 2 else (0.0, 400.0)
            track.feed(x, y)
            grown = track.bins(*window, 60, log)
            fresh = bins(list(x), list(y), *window, 60, log)
            assert (grown.pieces, grown.marks) == (fresh.pieces, fresh.marks)


def test_a_rewritten_history_is_noticed() -> None:
    x = list(range(100))
    track = Track()
    track.feed(x, [1.0] * 100)
    track.bins(0, 99, 10, False)
    track.feed(x, [2.0] * 100)
    assert {p.low for p in track.bins(0, 99, 10, False).pieces} == {2.0}
    track.feed(x[:40], [2.0] * 40)
    assert max(p.column for p in track.bins(0, 99, 10, False).pieces) == 4


class Watched(list[float]):
    """A list that counts the elements read from it."""

    read = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.read += len(found) if isinstance(key, slice) else 1
        return found


def test_one_more_point_does_not_touch_the_others() -> None:
    x, y = Watched(range(100_000)), Watched([1.0] * 100_000)
    track = Track()
    track.feed(x, y)
    track.bins(0, 200_000, 200, False)
    assert y.read >= 100_000
    x.append(100_000.0)
    y.append(3.0)
    y.read = 0
    track.feed(x, y)
    assert track.bins(0, 200_000, 200, False).pieces[-1].high == 3.0
    # One column holds a thousand points; the rest are the probes.
    assert y.read < 1200


def test_nearest() -> None:
    track = Track()
    track.feed([0, 10, 20], [0, 1, 2])
    assert [track.nearest(x) for x in (-5, 4, 5, 6, 14, 99)] == [0, 0, 0, 1, 1, 2]
