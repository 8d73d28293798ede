"""Ticks, scales and number formats of the chart's axes."""

import math

import pytest

from workbench.tui.widgets.axis import (
    bounds,
    format_seconds,
    format_ticks,
    format_value,
    linear_axis,
    log_axis,
    nice_step,
)


@pytest.mark.parametrize(
    ("span", "intervals", "step"),
    [(10, 5, 2), (1, 4, 0.5), (0.07, 7, 0.01), (1000, 10, 100), (999, 3, 500), (3e-5, 3, 1e-5), (7, 1, 10)],
)
def test_nice_step(span: float, intervals: int, step: float) -> None:
    assert nice_step(span, intervals) == pytest.approx(step)


@pytest.mark.parametrize("low", [-1e300, -7.3, 0.0, 1e-12, 1.0, 123456.7, 1e290])
@pytest.mark.parametrize("span", [1e-6, 0.37, 12.0, 9e5, 1e299])
@pytest.mark.parametrize("intervals", [1, 2, 5, 17])
def test_an_axis_holds_its_data_and_its_labels_differ(low: float, span: float, intervals: int) -> None:
    low, high = bounds([low, low + span])
    axis = linear_axis(low, high, intervals)
    slack = (high - low) * 1e-5
    assert axis.scale.low <= low + slack
    assert axis.scale.high >= high - slack
    assert 1 <= len(axis.ticks) <= intervals + 2
    assert len(set(axis.labels)) == len(axis.labels)
    assert list(axis.ticks) == sorted(axis.ticks)


@pytest.mark.parametrize("low", [1e-300, 1e-9, 0.002, 1.0, 37.0, 1e12])
@pytest.mark.parametrize("ratio", [1.001, 1.7, 4, 90, 1e5, 1e250])
def test_a_logarithmic_axis_holds_its_data(low: float, ratio: float) -> None:
    low, high = bounds([low, low * ratio], log=True)
    axis = log_axis(low, high, 5)
    assert 0 < axis.scale.low <= low * 1.0001
    assert axis.scale.high >= high * 0.9999
    assert len(set(axis.labels)) == len(axis.labels) >= 1
    assert axis.scale.fraction(low) < axis.scale.fraction(high)


def test_decades() -> None:
    axis = log_axis(1e-3, 1e2, 6)
    assert axis.labels == ("0.001", "0.01", "0.1", "1", "10", "100")
    assert [axis.scale.fraction(t) for t in axis.ticks] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert axis.scale.fraction(0) == axis.scale.fraction(-1) == 0


@pytest.mark.parametrize(
    ("values", "log", "expected"),
    [
        ([], False, (0, 1)),
        ([math.nan, math.inf], False, (0, 1)),
        ([-1.0, 0.0], True, (1, 10)),
        ([2.0], False, (1.8, 2.2)),
        ([0.0, 0.0], False, (-1, 1)),
        ([-3.0, math.nan, 5.0, -math.inf], False, (-3, 5)),
        ([1.0, 1.0 + 1e-15], False, (0.9, 1.1)),
        ([0.0, 4.0], True, (2, 8)),
    ],
)
def test_bounds(values: list[float], log: bool, expected: tuple[float, float]) -> None:
    assert bounds(values, log) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ticks", "step", "expected"),
    [
        ([0, 0.5, 1.0], 0.5, ("0.0", "0.5", "1.0")),
        ([1.001, 1.002], 0.001, ("1.001", "1.002")),
        ([0, 2000, 4000], 2000, ("0", "2,000", "4,000")),
        ([0, 20000, 40000], 20000, ("0", "20k", "40k")),
        ([1.5e6, 2e6], 5e5, ("1.5M", "2.0M")),
        ([12345, 12346], 1, ("12,345", "12,346")),
        ([0, 5e-5, 1e-4, 1.5e-4], 5e-5, ("0", "5e-5", "1e-4", "1.5e-4")),
        ([-0.2, -0.0, 0.2], 0.2, ("-0.2", "0.0", "0.2")),
    ],
)
def test_format_ticks(ticks: list[float], step: float, expected: tuple[str, ...]) -> None:
    assert format_ticks(ticks, step) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2.3456, "2.346"),
        (0.01234, "0.01234"),
        (2e-5, "2.000e-5"),
        (12345.6, "12,346"),
        (1240.0, "1,240"),
        (-0.0, "0"),
        (1.5e7 + 0.5, "1.500e7"),
        (math.nan, "NaN"),
        (-math.inf, "-inf"),
    ],
)
def test_format_value(value: float, expected: str) -> None:
    assert format_value(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0"), (0.25, "0.25s"), (45, "45s"), (150, "2m30s"), (3900, "1h05m"), (7200, "2h"), (273600, "3d04h")],
)
def test_format_seconds(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected


def test_time_ticks_are_those_of_a_clock() -> None:
    assert linear_axis(0, 7000, 5, clock=True).labels == ("0", "30m", "1h", "1h30m", "2h")
    assert linear_axis(0, 50, 5, clock=True).labels == ("0", "10s", "20s", "30s", "40s", "50s")


def test_exact_ends_stay() -> None:
    scale = linear_axis(3.3, 17.7, 5, exact=True).scale
    assert (scale.low, scale.high) == (3.3, 17.7)
