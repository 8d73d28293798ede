"""A run's peak memory in the machine panel: estimate, rehearsal, probe and training side by side."""

from textual.content import Content

from workbench.engine.runs.peaks import MemoryPeaks, columns, reserved, short_rows
from workbench.engine.runs.state import RunState
from workbench.tui.format import gib
from workbench.tui.widgets.lines import Lines

_COLUMN = 9
_GAP = 2
_MUTED = "$foreground 55%"


class PeakMemory(Lines):
    """Labels, figures, and a remark where the rows are short; not there before anything is known."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns: tuple[tuple[str, int | None], ...] = ()
        self._reserved = self._remark = ""

    def show(self, state: RunState, peaks: MemoryPeaks) -> None:
        """Show what is known of a run's peak."""
        self._columns, self._reserved, self._remark = columns(peaks), reserved(peaks), short_rows(peaks, state)
        self.display = any(value is not None for _, value in self._columns)
        self.redraw()

    def compose_lines(self, width: int) -> list[Content]:
        """Two lines; a third where the probe's rows are shorter than those of the estimate."""
        gap = " " * _GAP
        labels = gap.join(f"{label:>{_COLUMN}}" for label, _ in self._columns)
        values = gap.join(f"{gib(value):>{_COLUMN}}" for _, value in self._columns)
        beside = f"   {self._reserved}"
        lines = [Content.styled(labels, _MUTED),
                 Content.assemble(values, (beside if len(values + beside) <= width else "", _MUTED))]
        return [*lines, Content.styled(self._remark, _MUTED)] if self._remark else lines
