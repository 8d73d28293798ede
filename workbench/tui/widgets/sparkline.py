"""A sparkline: a series as one short line of block characters."""

from collections.abc import Sequence
from math import isfinite

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=*#"


def sparkline(values: Sequence[float], width: int, *, ascii: bool = False) -> str:
    """``values`` over ``width`` characters, oldest left, scaled from their lowest to their highest.

    More values than characters: each character shows the mean of its share. Fewer: one character each,
    filled up with spaces on the right. NaN and infinities are gaps; a constant series lies at mid height.
    """
    width = max(0, width)
    means = [_mean(share) for share in _shares(values, width)]
    known = [mean for mean in means if mean is not None]
    if not known:
        return " " * width
    levels = _ASCII if ascii else _BLOCKS
    low, high = min(known), max(known)
    # Halves keep the difference finite for values near the largest float.
    span = high / 2 - low / 2

    def glyph(mean: float | None) -> str:
        if mean is None:
            return " "
        part = (mean / 2 - low / 2) / span if span > 0 else 0.5
        return levels[min(len(levels) - 1, int(part * len(levels)))]

    return "".join(glyph(mean) for mean in means).ljust(width)


def _shares(values: Sequence[float], width: int) -> list[Sequence[float]]:
    count = len(values)
    columns = min(count, width)
    return [values[c * count // columns : (c + 1) * count // columns] for c in range(columns)]


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if isfinite(value)]
    if not finite:
        return None
    return sum(value / len(finite) for value in finite)
