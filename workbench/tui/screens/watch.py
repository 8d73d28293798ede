"""Watch: one run as it trains."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.widgets import Static

from workbench.engine.runs.directory import RunDirectory
from workbench.tui.screens.base import WorkbenchScreen


class WatchScreen(WorkbenchScreen):
    """One run as it trains."""

    MODE: ClassVar[str] = "watch"

    def __init__(self, run: RunDirectory | None = None) -> None:
        super().__init__()
        self._run_directory = run

    def show_run(self, run: RunDirectory) -> None:
        """Follow this run; may be called before the screen is shown."""
        self._run_directory = run

    def compose_body(self) -> ComposeResult:
        """A sentence until there is a run."""
        yield Static("No runs yet: press 1 to plan one.", classes="empty")
