"""The composed chart: sizes, marks, legend, labels, the cursor, plain ASCII, and frames that build on another."""

import math
import random

import pytest

from workbench.tui.widgets.cells import Grid, changed_span, text_cells
from workbench.tui.widgets.chart_frame import compose
from workbench.tui.widgets.chart_model import Frame, Ink, Memory, Series, View
from workbench.tui.widgets.series_bins import Track

NAN = math.nan
HOSTILE = [
    [],
    [1.0],
    [0.0, 0.0],
    [NAN, NAN],
    [1.0, NAN, 2.0, math.inf, -math.inf, 3.0],
    [-1.7e308, 1.7e308],
    [5e-324, 1e-320],
    [1.0, 1.0 + 1e-15],
    [-5.0, -4.0],
    [1e15, 1e15 + 1],
    [2e-5, 3e-5, 0.0],
]


def draw(series: list[Series], width: int, height: int, **view: object) -> Frame:
    memory = Memory([Track() for _ in series])
    return compose(series, View(**view), memory, width, height)  # type: ignore[arg-type]


def lines(frame: Frame) -> list[str]:
    return ["".join(cells) for cells, _ in frame.grid.rows]


def one(y: list[float], name: str = "loss") -> Series:
    return Series(name, list(range(len(y))), y)


def test_a_small_chart() -> None:
    frame = draw([one([4.0, 3.0, 2.0, 1.0, 0.0])], 30, 9, title="train", x_label="step")
    assert lines(frame) == [
        "train                 ● loss 0",
        "   4 ┤⠑⠢⢄⡀                    ",
        "     │   ⠈⠑⠢⢄⡀                ",
        "     │       ⠈⠑⠢⢄⡀            ",
        "   2 ┤           ⠈⠉⠒⠤⣀        ",
        "     │                ⠉⠒⠤⣀    ",
        "   0 ┤                    ⠉⠒⠤⣀",
        "     └┬───────────┬──────────┬",
        "step  0           2          4",
    ]


@pytest.mark.parametrize("y", HOSTILE)
@pytest.mark.parametrize("log", [False, True])
def test_no_data_and_no_size_raises(y: list[float], log: bool) -> None:
    for width, height in [(1, 1), (2, 1), (1, 5), (11, 4), (12, 3), (12, 4), (13, 5), (20, 8), (80, 24), (200, 60)]:
        for ascii_only in (False, True):
            options = {"title": "a title", "x_label": "step", "empty": "No points yet.", "cursor_x": 1.0}
            frame = draw([one(y), one([1.0, 2.0])], width, height, log_scale=log, ascii=ascii_only, **options)
            assert len(frame.grid.rows) == height
            assert all(len(cells) == len(styles) == width for cells, styles in frame.grid.rows)
            assert not ascii_only or all(line.isascii() for line in lines(frame))


def test_hostile_x() -> None:
    for x in ([NAN, 1.0], [math.inf, 1.0], [3.0, 1.0], [0.0, 1e308], [-1.7e308, 1.7e308], [5.0, 5.0]):
        for x_range in (None, (0.0, 0.0), (NAN, 1.0), (0.0, math.inf), (10.0, -10.0)):
            draw([Series("loss", x, [1.0, 2.0])], 60, 12, x_range=x_range, x_seconds=True)


def test_the_ascii_chart_has_no_other_characters() -> None:
    series = [one([3.0, 1.0, NAN, 2.0], "Verlust µ → 損失"), one([0.0, 1.0, -1.0, 2.0], "énorme")]
    for log in (False, True):
        text = "\n".join(lines(draw(series, 70, 14, title="Größe", x_label="Schritt ×", ascii=True, log_scale=log)))
        assert text.isascii()
        assert "x" in text


def test_nan_is_marked_above_the_plot_and_leaves_a_gap() -> None:
    y = [1.0] * 40 + [NAN] * 20 + [1.0] * 40
    rows = lines(draw([one(y)], 106, 12))
    left = rows[1].index("×")
    assert set(rows[1][left : left + 18]) == {"×"}
    curve = next(row for row in rows[2:] if "⠤" in row or "⠒" in row or "⠉" in row or "⣀" in row)
    assert set(curve[left + 1 : left + 17]) == {" "}
    assert curve[left - 2] != " " != curve[left + 22]
    assert "NaN" in lines(draw([one([1.0, NAN])], 40, 10))[0]


def test_a_curve_that_is_nothing_but_nan_shows() -> None:
    assert "×" in lines(draw([one([NAN])], 40, 10))[1]
    assert "×" in "".join(lines(draw([one([NAN, 1.0])], 12, 4)))


def test_values_below_a_logarithmic_axis_are_marked_at_its_foot() -> None:
    rows = lines(draw([one([0.0, 1.0, 100.0])], 40, 10, log_scale=True))
    assert "↓" in rows[-3]
    assert "×" not in "".join(rows)


def test_one_point_shows() -> None:
    frame = draw([one([2.5])], 40, 10)
    drawn = [
        cell for cells, styles in frame.grid.rows[1:] for cell, style in zip(cells, styles, strict=True) if style >= 6
    ]
    assert len(drawn) == 1


def test_a_constant_curve_lies_inside_its_axis() -> None:
    frame = draw([one([0.7] * 10)], 40, 12)
    assert frame.plot is not None
    assert frame.plot.y.scale.low < 0.7 < frame.plot.y.scale.high
    assert 1 < frame.plot.row(0.7) < 9


def test_nothing_yet() -> None:
    assert "No points yet." in lines(draw([], 40, 9, empty="No points yet."))[4]
    assert lines(draw([one([])], 5, 1, empty="No points yet.")) == ["No po"]


def test_a_logarithmic_axis_in_two_rows_keeps_its_powers_of_ten() -> None:
    rows = lines(draw([one([2e-5, 3e-5, 1.0, 2.0])], 60, 4, log_scale=True))
    assert any(row.lstrip().startswith(("1 ", "1e-5", "0.1 ", "0.01 ", "0.001 ", "1e-4")) for row in rows)


@pytest.mark.parametrize(("width", "shown"), [(8, "12,346"), (5, "·"), (1, "·")])
def test_a_tiny_chart_shows_the_last_value_or_none_but_never_a_part(width: int, shown: str) -> None:
    assert lines(draw([one([1.0, 12345.6])], width, 3))[0].strip() == shown
    assert lines(draw([one([1.0, 2.345])], 4, 1)) == ["2.35"]
    assert lines(draw([one([1.0, 2.345])], 1, 1)) == ["2"]


def test_the_legend_gives_way_to_the_width() -> None:
    series = [one([1.0, 2.345], "train"), one([1.0, 2.5], "eval"), one([3.25], "other")]
    heads = {w: lines(draw(series, w, 8, title="train/loss"))[0] for w in (70, 45, 30, 14, 12)}
    assert heads == {
        70: "train/loss                  ● train 2.345  ● eval 2.500  ● other 3.250",
        45: "train/loss    ● train 2.345  ● eval 2.500  +1",
        30: "train/loss   ● train 2.345  +2",
        14: "   ● 2.345  +2",
        12: " ● 2.345  +2",
    }


def test_the_cursor_tells_values_and_where_they_are() -> None:
    series = [one([float(i) / 7 for i in range(101)], "train"), Series("eval", [0, 50, 100], [3.0, 2.5, NAN])]
    frame = draw(series, 80, 12, title="loss", x_label="step", cursor_x=52)
    rows = lines(frame)
    assert rows[0].startswith("step 52 ")
    assert rows[0].endswith("● train 7.42857  ● eval 2.50000 @50")
    assert frame.plot is not None
    column = frame.plot.column(52)
    under = [row[column] for row in rows[1:10]]
    assert under.count("│") >= 7
    assert lines(draw(series, 80, 12, cursor_x=99))[0].endswith("eval NaN @100")


def test_a_zoomed_chart_keeps_the_window_and_forgets_the_rest() -> None:
    y = [1000.0] + [float(i % 7) for i in range(1, 200)]
    frame = draw([one(y)], 80, 16, x_range=(50.0, 150.0))
    assert frame.plot is not None
    assert (frame.plot.x.scale.low, frame.plot.x.scale.high) == (50.0, 150.0)
    assert frame.plot.y.scale.high < 10


def test_time_on_the_x_axis() -> None:
    series = Series("loss", [0.0, 3600.0, 7200.0], [3.0, 2.0, 1.0])
    assert lines(draw([series], 70, 10, x_label="time", x_seconds=True))[-1].split()[:3] == ["time", "0", "30m"]


def test_a_faint_curve_stays_beneath() -> None:
    x = list(range(200))
    raw = Series("raw", x, [float(i % 2) for i in x], faint=True)
    smooth = Series("smooth", x, [0.5] * 200)
    both = draw([raw, smooth], 60, 12)
    assert both.plot is not None
    row = both.plot.row(0.5)
    assert set(both.grid.rows[row][1][both.plot.left : -1]) == {Ink.SERIES + 1}
    assert len(set(lines(both)[row][both.plot.left : -1])) == 1


def test_frames_that_build_on_the_last_equal_frames_from_nothing() -> None:
    rng = random.Random(11)
    for trial in range(6):
        x: list[float] = []
        series = [Series("a", x, []), Series("b", x, [], faint=True), Series("c", [], [])]
        memory = Memory([Track() for _ in series])
        view = View(x_range=(0, 120) if trial % 2 else None, log_scale=trial % 3 == 0)
        for step in range(150):
            x.append(step)
            series[0].y.append(rng.choice((rng.random(), rng.random(), 0.5, NAN)))  # type: ignore[attr-defined]
            series[1].y.append(rng.gauss(1, 0.5))  # type: ignore[attr-defined]
            if step % 20 == 0:
                series[2].x.append(step)  # type: ignore[attr-defined]
                series[2].y.append(rng.random())  # type: ignore[attr-defined]
            grown = compose(series, view, memory, 50, 12)
            fresh = compose(series, view, Memory([Track() for _ in series]), 50, 12)
            assert grown.grid.rows == fresh.grid.rows, f"trial {trial}, step {step}"


def test_many_series() -> None:
    frame = draw([one([float(i), 1.0], f"run {i}") for i in range(300)], 80, 20)
    assert lines(frame)[0].rstrip().endswith("+294")


def test_wide_and_invisible_characters_keep_the_cells_aligned() -> None:
    assert text_cells("a損\u0301b\x1b[\u200d") == ["a", "損", "", "b", "["]
    assert text_cells("µ損", ascii=True) == ["?", "?"]
    grid = Grid(3, 1)
    grid.put(0, 0, text_cells("a損損"), 1)
    assert grid.rows[0][0] == ["a", "損", ""]
    grid.put(-1, 0, text_cells("損b"), 1)
    assert grid.rows[0][0][:2] == [" ", "b"]


def test_the_changed_span_is_as_small_as_it_can_be() -> None:
    def row(text: str, styles: bytes = b"") -> tuple[list[str], bytearray]:
        cells = text_cells(text)
        return cells, bytearray(styles or bytes(len(cells)))

    assert changed_span(row("abcdef"), row("abcdef")) is None
    assert changed_span(row("abcdef"), row("abXdYf")) == (2, 5)
    assert changed_span(row("abc", b"\1\1\1"), row("abc", b"\1\2\1")) == (1, 2)
    assert changed_span(row("a損b"), row("axyb")) == (1, 3)
    assert changed_span(row("a損b"), row("a損c")) == (3, 4)


def test_a_sparse_curve_over_a_noisy_one_shows_only_its_own_dots() -> None:
    noisy = one([float(i % 2) for i in range(200)], "noisy")
    sparse = Series("sparse", [0, 199], [0.5, 0.5])
    frame = draw([noisy, sparse], 60, 12)
    assert frame.plot is not None
    cells, styles = frame.grid.rows[frame.plot.row(0.5)]
    shown = slice(frame.plot.left, frame.plot.left + frame.plot.width - 2)
    assert set(styles[shown]) == {Ink.SERIES + 1}
    assert len(set(cells[shown])) == 1
