"""How far the rehearsal of a recipe is, or what it found, in one sentence beside the estimate."""

from dataclasses import dataclass

from workbench.engine.figures import duration, gib
from workbench.engine.memory.estimate import MemoryEstimate
from workbench.engine.recipe import Recipe
from workbench.engine.rehearsal import Rehearsal
from workbench.tui.widgets.lines import ASCII_EMPTY, ASCII_FILLED, EMPTY, FILLED

_BAR = 10
_SAME = 0.0005
"""The estimate counts as the same within this share of the rehearsed peak: what one decimal of a per cent shows."""


@dataclass(frozen=True, slots=True)
class RehearsalStatus:
    """One rehearsal: running while `share` (0 to 1) is known, else done, with what was `found` or a `problem`."""

    recipe: Recipe
    share: float | None = None
    words: str = ""
    found: Rehearsal | None = None
    problem: str | None = None


def rehearsal_title(status: RehearsalStatus | None) -> str:
    """The title of the memory panel: in view wherever the sentence is not."""
    if status is None:
        return "Predicted GPU memory"
    if status.share is not None:
        return f"GPU memory: rehearsing, {status.share:.0%}"
    return f"GPU memory: rehearsed {gib(status.found.peak_bytes, 2)}" if status.found else "GPU memory: not rehearsed"


def rehearsal_sentence(status: RehearsalStatus | None, estimate: MemoryEstimate | None, ascii: bool) -> str:
    """How it stands for the recipe on screen, or what was found beside its estimate. `status` None: not rehearsed."""
    if status is None:
        return "not yet: ctrl+r traces the real trainer on fake tensors"
    if status.share is not None:
        full, empty = (ASCII_FILLED, ASCII_EMPTY) if ascii else (FILLED, EMPTY)
        filled = round(min(max(status.share, 0.0), 1.0) * _BAR)
        return f"{full * filled}{empty * (_BAR - filled)} {status.share:.0%} {status.words} (esc cancels)"
    found = status.found
    if found is None:
        return status.problem or "it found nothing"
    parts = [gib(found.peak_bytes, 2)]
    if estimate is not None:
        off = estimate.peak_bytes / found.peak_bytes - 1
        parts.append("the estimate says the same" if abs(off) < _SAME else f"the estimate is {off:+.1%}")
    if estimate is None or found.peak_moment != estimate.peak_moment:
        parts.append(f"at the {found.peak_moment.removeprefix('the ')}")
    return "; ".join([*parts, f"took {duration(found.seconds)}"])
