"""Training time: the wall clock less what is spent on samples, checkpoints and evaluation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds spent training. Waiting for data counts, pauses do not."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._paused = 0.0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave out what happens inside."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.exclude(time.monotonic() - began)

    def exclude(self, seconds: float) -> None:
        """Leave out time measured elsewhere."""
        self._paused += seconds

    @property
    def seconds(self) -> float:
        """Training time so far."""
        return time.monotonic() - self._began - self._paused
