"""The largest batch and the longest rows that fit a budget, judged on the upper end of the band.

Peaks grow with both: affinely in the batch, and with a square in the length where attention keeps scores or a mask. The
Illinois rule finds the size in about ten evaluations of some microseconds each.
"""

from collections.abc import Callable

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.estimate import Estimator

# Beyond any context window and any batch that is run on one GPU.
MOST_TOKENS = 2**20
MOST_ROWS = 2**16


def largest_batch(architecture: Architecture, case: MemoryCase, budget_bytes: float) -> int | None:
    """The largest `per_device_train_batch_size` that fits; None when not even 1 does. Raises InputError for a case
    that cannot be estimated."""
    return largest_batch_of(Estimator(architecture, case), budget_bytes)


def longest_max_length(
    architecture: Architecture, case: MemoryCase, budget_bytes: float, limit: int = MOST_TOKENS
) -> int | None:
    """The longest `max_length` in tokens, up to `limit` (the model's own), that fits; None when not even 1 does.
    Raises InputError for a case that cannot be estimated."""
    return longest_max_length_of(Estimator(architecture, case), budget_bytes, limit)


def largest_batch_of(estimator: Estimator, budget_bytes: float) -> int | None:
    """As `largest_batch`, for a case whose lasting part is known already."""
    length = estimator.case.max_length
    start = estimator.case.per_device_train_batch_size
    return _largest(lambda rows: estimator.high_bytes(rows, length), budget_bytes, start, MOST_ROWS)


def longest_max_length_of(estimator: Estimator, budget_bytes: float, limit: int = MOST_TOKENS) -> int | None:
    """As `longest_max_length`, for a case whose lasting part is known already."""
    rows = estimator.case.per_device_train_batch_size
    start = estimator.case.max_length
    return _largest(lambda length: estimator.high_bytes(rows, length), budget_bytes, start, limit)


def _largest(high_bytes: Callable[[int], float], budget: float, start: int, most: int) -> int | None:
    """The largest size of 1 to `most` whose bytes stay within the budget; bytes never shrink with the size."""

    def over(size: int) -> float:
        return high_bytes(size) - budget

    fits, below = 1, over(1)
    if below > 0 or most <= 1:
        return None if below > 0 else 1
    # Lines through two points only overshoot a growing slope: each brings a size that fits, or the first that fails.
    size = max(2, min(start, most))
    while True:
        above = over(size)
        if above > 0:
            break
        if size == most:
            return most
        slope = (above - below) / (size - fits)
        fits, below = size, above
        size = min(most, max(2 * size, size + int(-above / slope) + 1)) if slope > 0 else most
    return _between(over, fits, below, size, above)


def _between(over: Callable[[int], float], fits: int, below: float, fails: int, above: float) -> int:
    """The last size that is not over the budget, by false position; an end that stays put counts half (Illinois), and
    three steps that do not halve the interval are followed by one that does."""
    kept = 0
    steps, width = 0, fails - fits
    while fails - fits > 1:
        guess = fits + int(-below / (above - below) * (fails - fits))
        if steps == 3:
            guess = (fits + fails) // 2 if 2 * (fails - fits) > width else guess
            steps, width = 0, fails - fits
        steps += 1
        size = min(max(guess, fits + 1), fails - 1)
        found = over(size)
        if found <= 0:
            fits, below, above = size, found, above / 2 if kept == 1 else above
            kept = 1
        else:
            fails, above, below = size, found, below / 2 if kept == -1 else below
            kept = -1
    return fits
