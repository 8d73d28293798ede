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
    return batch_search(estimator).largest(budget_bytes)


def longest_max_length_of(estimator: Estimator, budget_bytes: float, limit: int = MOST_TOKENS) -> int | None:
    """As `longest_max_length`, for a case whose lasting part is known already."""
    return length_search(estimator, limit).largest(budget_bytes)


def batch_search(estimator: Estimator) -> "Search":
    """Over rows, for several budgets."""
    case = estimator.case
    return Search(lambda rows: estimator.high_bytes(rows, case.max_length), case.per_device_train_batch_size, MOST_ROWS)


def length_search(estimator: Estimator, limit: int) -> "Search":
    """Over tokens in a row, for several budgets."""
    case = estimator.case
    return Search(lambda tokens: estimator.high_bytes(case.per_device_train_batch_size, tokens), case.max_length, limit)


class Search:
    """The largest size of 1 to `most` whose bytes stay within a budget; bytes never shrink with the size.

    Sizes that were asked for remain known: the next budget starts between the two nearest of them.
    """

    def __init__(self, high_bytes: Callable[[int], float], start: int, most: int) -> None:
        self._high_bytes, self._start, self._most = high_bytes, start, max(most, 1)
        self._known: dict[int, float] = {}

    def _bytes(self, size: int) -> float:
        if size not in self._known:
            self._known[size] = self._high_bytes(size)
        return self._known[size]

    def largest(self, budget: float) -> int | None:
        """The largest size that fits; None when not even 1 does."""

        def over(size: int) -> float:
            return self._bytes(size) - budget

        if over(1) > 0:
            return None
        fits = max(size for size, found in self._known.items() if found <= budget)
        fails = min((size for size, found in self._known.items() if found > budget), default=None)
        if fails is None:
            fits, fails = self._bracket(over, fits)
        return fits if fails is None else _between(over, fits, over(fits), fails, over(fails))

    def _bracket(self, over: Callable[[int], float], fits: int) -> tuple[int, int | None]:
        """A size that fits and one that fails, or None for the latter when the most fits."""
        # Lines through two points only overshoot a growing slope: each brings a size that fits, or the first failure.
        below, size = over(fits), min(max(2, 2 * fits, self._start), self._most)
        while fits < self._most:
            above = over(size)
            if above > 0:
                return fits, size
            slope = (above - below) / (size - fits)
            fits, below = size, above
            size = min(self._most, max(2 * size, size + int(-above / slope) + 1)) if slope > 0 else self._most
        return fits, None


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
