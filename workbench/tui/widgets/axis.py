"""Axes: linear and logarithmic scales, ticks at round numbers, and how numbers are written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

_LARGEST = 1e300
"""Bounds are cut here so that the difference of two of them is finite."""
_EXPONENTS = (-305.0, 305.0)
"""A logarithmic axis ends here: beyond, powers of ten are no longer normal floats."""
_SMALLEST_RATIO = 1e-9
"""A range narrower than this part of its values counts as constant: ticks would not be distinct floats."""
_CLOCK = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Round steps on a clock, in seconds."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to positions; ``low`` and ``high`` are values, positive when ``log``."""

    low: float
    high: float
    log: bool = False

    def fraction(self, value: float) -> float:
        """Position of ``value`` from 0 (``low``) to 1 (``high``), cut at both ends."""
        if self.log:
            if value <= 0:
                return 0.0
            part = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        else:
            part = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, part))


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale, the values that carry a tick, and the text of each."""

    scale: Scale
    ticks: tuple[float, ...]
    labels: tuple[str, ...]


def nice_step(span: float, intervals: int) -> float:
    """The smallest 1, 2 or 5 x 10^k that covers ``span`` (> 0) in at most ``intervals`` steps."""
    raw = span / max(1, intervals)
    power = 10.0 ** floor(log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9) or m == 10)


def clock_step(span: float, intervals: int) -> float:
    """Like ``nice_step`` in seconds, at steps a clock has."""
    raw = span / max(1, intervals)
    if raw <= _CLOCK[0]:
        return nice_step(span, intervals)
    if raw > _CLOCK[-1]:
        return 86400 * nice_step(span / 86400, intervals)
    return float(next(step for step in _CLOCK if step >= raw))


def multiples(low: float, high: float, step: float) -> tuple[float, ...]:
    """The multiples of ``step`` from ``low`` to ``high``, both included within rounding."""
    return tuple(k * step for k in range(ceil(low / step - 1e-6), floor(high / step + 1e-6) + 1))


def bounds(values: Iterable[float], log: bool = False) -> tuple[float, float]:
    """The lowest and the highest drawable value, moved apart when they coincide.

    Without a drawable value the bounds are 0 and 1 (1 and 10 when ``log``).
    """
    drawable = [v for v in values if isfinite(v) and (v > 0 or not log)]
    if not drawable:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = max(min(drawable), -_LARGEST), min(max(drawable), _LARGEST)
    low, high = min(low, high), max(low, high)
    if log:
        low, high = max(low, 1 / _LARGEST), max(high, 1 / _LARGEST)
        return (low / 2, high * 2) if high <= low * (1 + _SMALLEST_RATIO) else (low, high)
    if high - low <= max(_SMALLEST_RATIO * max(abs(low), abs(high)), 1 / _LARGEST):
        pad = abs(high) / 10 if abs(high) > 1 / _LARGEST else 1.0
        return low - pad, high + pad
    return low, high


def linear_axis(low: float, high: float, intervals: int, *, exact: bool = False, clock: bool = False) -> Axis:
    """An axis over ``low`` < ``high`` with at most about ``intervals`` ticks.

    The ends are moved outwards to half a step, so that a growing curve rarely moves the axis;
    ``exact`` keeps them. ``clock`` takes values as seconds.
    """
    step = (clock_step if clock else nice_step)(high - low, intervals)
    if not exact:
        grain = step / 2
        low, high = floor(low / grain + 1e-6) * grain, ceil(high / grain - 1e-6) * grain
    ticks = multiples(low, high, step)
    labels = tuple(format_seconds(t) for t in ticks) if clock else format_ticks(ticks, step)
    return Axis(Scale(low, high), ticks, labels)


def log_axis(low: float, high: float, intervals: int) -> Axis:
    """A base-10 logarithmic axis over 0 < ``low`` < ``high``: decades, then 1-2-5, then linear ticks."""
    first, last = log10(low), log10(high)
    powers = range(floor(first + 1e-9), ceil(last - 1e-9) + 1)
    every = max(1, ceil((len(powers) - 1) / max(1, intervals)))
    decades = [10.0**k for k in powers if k % every == 0]
    fine = [m * 10.0**k for k in powers for m in (1, 2, 5)]
    grain = nice_step(last - first, max(4, intervals)) / 2
    low = 10 ** max(_EXPONENTS[0], floor(first / grain + 1e-6) * grain)
    high = 10 ** min(_EXPONENTS[1], ceil(last / grain - 1e-6) * grain)
    scale = Scale(low, high, log=True)
    for candidates in (fine, decades):
        ticks = tuple(t for t in candidates if low * (1 - 1e-9) <= t <= high * (1 + 1e-9))
        if (1 if last - first >= 1 else 2) <= len(ticks) <= intervals + 1:
            return Axis(scale, ticks, tuple(_format_lone(t) for t in ticks))
    step = nice_step(high - low, intervals)
    ticks = tuple(t for t in multiples(low, high, step) if t > 0) or (high,)
    return Axis(scale, ticks, format_ticks(ticks, step))


def format_ticks(ticks: Sequence[float], step: float) -> tuple[str, ...]:
    """The ticks as text, with just the digits that tell them apart; k, M and G where that is shorter."""
    largest = max((abs(t) for t in ticks), default=0.0)
    if largest < 1e-3 or largest >= 1e15:
        return tuple(_scientific(t, step) for t in ticks)
    if largest >= 10_000:
        size, unit = next((s, u) for s, u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if largest >= s)
        if _decimals(step / size) <= 2:
            return tuple(_fixed(t / size, _decimals(step / size)) + (unit if t else "") for t in ticks)
    return tuple(_fixed(t, _decimals(step)) for t in ticks)


def format_value(value: float, digits: int = 4) -> str:
    """One value to ``digits`` significant digits; whole numbers in full; NaN and inf by name."""
    if value != value:
        return "NaN"
    if not isfinite(value):
        return "inf" if value > 0 else "-inf"
    if value == int(value) and abs(value) < 1e9:
        return f"{value + 0.0:,.0f}"
    if not 1e-3 <= abs(value) < 1e6:
        return _trim_exponent(f"{value:.{digits - 1}e}")
    return f"{value:,.{max(0, digits - 1 - floor(log10(abs(value))))}f}"


def format_seconds(seconds: float) -> str:
    """A span of time in its two largest units: ``45s``, ``2m30s``, ``1h05m``, ``3d04h``."""
    if seconds != floor(seconds) and abs(seconds) < 60:
        return f"{seconds:.3g}s"
    sign, whole = ("-" if seconds < 0 else ""), round(abs(seconds))
    for size, unit, part, part_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // part
            return f"{sign}{whole // size}{unit}" + (f"{rest:02}{part_unit}" if rest else "")
    return f"{sign}{whole}s" if whole else "0"


def _decimals(step: float) -> int:
    return max(0, -floor(log10(step) + 1e-9))


def _fixed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"


def _scientific(value: float, step: float) -> str:
    if abs(value) < step / 2:
        return "0"
    digits = max(0, floor(log10(abs(value)) + 1e-9) - floor(log10(step) + 1e-9))
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"


def _format_lone(value: float) -> str:
    if 1e-3 * (1 - 1e-9) <= value < 1e4 * (1 - 1e-9):
        return f"{value:.6g}"
    return _scientific(value, value)


def _trim_exponent(text: str) -> str:
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"
