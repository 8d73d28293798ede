"""The end of a run's log, and its alerts."""

import os
from collections.abc import Sequence
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from workbench.engine.runs.state import Alert
from workbench.engine.text import sanitise

_TAIL_BYTES = 1 << 15
_TAIL_LINES = 200
_MOST_ALERTS = 3
_ALERT_STYLES = {"info": "$foreground 75%", "error": "$error"}


class LogTail:
    """The last lines of a growing text file. `read` blocks: it belongs in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = -1
        self._lines: tuple[str, ...] = ()

    def read(self) -> tuple[str, ...]:
        """The last lines, safe to show; of a progress bar that rewrites its line, the newest writing."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size != self._size:
                    self._size = size
                    file.seek(max(size - _TAIL_BYTES, 0))
                    self._lines = _clean(file.read(), cut=size > _TAIL_BYTES)
        except OSError:
            self._lines = ()
        return self._lines


def _clean(data: bytes, cut: bool) -> tuple[str, ...]:
    lines = data.decode("utf-8", errors="replace").replace("\r\n", "\n").split("\n")
    shown = [sanitise(line.rstrip("\r").rpartition("\r")[2]).rstrip() for line in lines[1 if cut else 0:]]
    return tuple(line for line in shown if line)[-_TAIL_LINES:]


class LogPane(VerticalScroll):
    """Log lines as they come; stays at the end until the user scrolls up."""

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._shown: tuple[tuple[str, ...], tuple[Alert, ...]] | None = None

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(markup=False, expand=True)

    def on_mount(self) -> None:
        """Keep the newest line in sight."""
        self.border_title = "Log"
        self.anchor()

    def show(self, lines: Sequence[str], alerts: Sequence[Alert]) -> None:
        """Show the log's last lines and, below them, the last alerts."""
        fresh = tuple(lines), tuple(alerts[-_MOST_ALERTS:])
        if fresh == self._shown:
            return
        self._shown = fresh
        parts = [Content.styled(line, "$foreground 75%") for line in fresh[0]]
        parts += [Content.assemble(("! ", "$warning"), (f"step {alert.step}: {sanitise(alert.message)}",
                                                        _ALERT_STYLES.get(alert.level, "$warning")))
                  for alert in fresh[1]]
        empty = Content.styled("The worker has written nothing yet.", "$foreground 55%")
        self.query_one(Static).update(Content("\n").join(parts) if parts else empty)
