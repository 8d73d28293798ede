"""A metric over steps: two flat arrays, cheap to append to and to cut."""

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass
class MetricSeries:
    """Values of one metric by step, in rising order of step. Mutable: it is the fold's working state."""

    steps: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))
    elapsed: "array[float]" = field(default_factory=lambda: array("d"))

    def append(self, step: int, value: float, elapsed: float) -> None:
        """Add a point; a step already passed replaces what stood there and after (an abandoned branch)."""
        if self.steps and step <= self.steps[-1]:
            self.drop_after(step - 1)
        self.steps.append(step)
        self.values.append(value)
        self.elapsed.append(elapsed)

    def drop_after(self, step: int) -> None:
        """Forget the points beyond `step`."""
        keep = bisect_right(self.steps, step)
        del self.steps[keep:], self.values[keep:], self.elapsed[keep:]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last(self) -> float | None:
        """The newest value, None when there is none."""
        return self.values[-1] if self.values else None
