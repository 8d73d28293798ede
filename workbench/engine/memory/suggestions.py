"""What would make a set-up fit."""

from dataclasses import dataclass
from typing import Any

from workbench.engine.memory.comparison import Fit


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A change to a recipe: dotted keys with their new values, in words, and what it would come to."""

    changes: tuple[tuple[str, Any], ...]
    words: str
    peak_bytes: int
    fit: Fit
