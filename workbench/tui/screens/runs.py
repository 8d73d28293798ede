"""Runs: every run at a glance."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.widgets import Static

from workbench.tui.screens.base import WorkbenchScreen


class RunsScreen(WorkbenchScreen):
    """Every run at a glance."""

    MODE: ClassVar[str] = "runs"

    def compose_body(self) -> ComposeResult:
        """A sentence until the list is there."""
        yield Static("No runs yet: press 1 to plan one.", classes="empty")
