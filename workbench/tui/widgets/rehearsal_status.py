"""How far the rehearsal of a recipe is, or what it found, in one sentence beside the estimate."""

from dataclasses import dataclass

from workbench.engine.figures import duration, gib
from workbench.engine.recipe import Recipe
from workbench.tui.widgets.lines import ASCII_EMPTY, ASCII_FILLED, EMPTY, FILLED

_BAR = 10


@dataclass(frozen=True, slots=True)
class RehearsalStatus:
    """One rehearsal: running while `share` (0 to 1) is known, else done, with a peak in bytes or a `problem`."""

    recipe: Recipe
    share: float | None = None
    words: str = ""
    peak_bytes: int | None = None
    peak_moment: str = ""
    seconds: float = 0.0
    problem: str | None = None


def rehearsal_sentence(status: RehearsalStatus | None, estimated_bytes: int | None, ascii: bool) -> str:
    """What to show for the recipe on screen; None where it was not rehearsed."""
    if status is None:
        return "not yet: ctrl+r traces the real trainer on fake tensors"
    if status.share is not None:
        full, empty = (ASCII_FILLED, ASCII_EMPTY) if ascii else (FILLED, EMPTY)
        filled = round(min(max(status.share, 0.0), 1.0) * _BAR)
        return f"{full * filled}{empty * (_BAR - filled)} {status.share:.0%} {status.words} (esc cancels)"
    if status.peak_bytes is None:
        return status.problem or "cancelled"
    moment = f"at the {status.peak_moment.removeprefix('the ')}" if status.peak_moment else ""
    beside = ""
    if estimated_bytes is not None and status.peak_bytes:
        beside = f"estimate {estimated_bytes / status.peak_bytes - 1:+.1%}"
    return "; ".join(part for part in (gib(status.peak_bytes, 2), beside, moment,
                                       f"traced in {duration(status.seconds)}") if part)
