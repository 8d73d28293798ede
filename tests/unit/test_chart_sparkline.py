"""Sparklines: width, levels, gaps and the plain fallback."""

import math

import pytest

from workbench.tui.widgets.sparkline import sparkline


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([7, 0], 2, "█▁"),
        ([1, 1, 3, 3], 2, "▁█"),
        ([5, 5, 5], 3, "▅▅▅"),
        ([1, math.nan, 2], 3, "▁ █"),
        ([1, 2], 4, "▁█  "),
        ([math.inf, 1, 2], 3, " ▁█"),
        ([], 3, "   "),
        ([math.nan], 2, "  "),
        ([1, 2], 0, ""),
        ([-1.7e308, 1.7e308], 2, "▁█"),
    ],
)
def test_sparkline(values: list[float], width: int, expected: str) -> None:
    assert sparkline(values, width) == expected


def test_plain() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5], 6, ascii=True) == "_.-=*#"


@pytest.mark.parametrize("count", [0, 1, 7, 40, 1000])
@pytest.mark.parametrize("width", [0, 1, 6, 40])
def test_the_width_is_kept(count: int, width: int) -> None:
    line = sparkline([math.sin(i) for i in range(count)], width)
    assert len(line) == width
