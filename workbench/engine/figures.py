"""Numbers and times as people read them, on screens and in plain lines."""

import time

GIB = 1024**3


def gib(value: float | None, digits: int = 1) -> str:
    """Bytes as GiB, or MiB below one GiB; – for unknown."""
    if value is None:
        return "–"
    if value < GIB:
        return f"{value / 1024**2:.0f} MiB"
    return f"{value / GIB:.{digits}f} GiB"


def count(value: float | None) -> str:
    """A count in three figures: 134M, 8.03B, 12.4k; – for unknown."""
    if value is None:
        return "–"
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.0f}"


def number(value: float | None, digits: int = 4) -> str:
    """A metric in four significant figures; NaN is shown as NaN; – for unknown."""
    if value is None:
        return "–"
    if value != value:
        return "NaN"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    return f"{value:.{digits - 2}e}"


def duration(seconds: float | None) -> str:
    """Seconds as 42s, 3m05s, 2h07m, 3d04h; – for unknown."""
    if seconds is None:
        return "–"
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def age(then: float | None) -> str:
    """How long ago a time (seconds since the epoch) was, roughly."""
    if then is None:
        return "–"
    seconds = max(time.time() - then, 0)
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= limit:
            return f"{int(seconds // limit)}{unit} ago"
    return "just now"
