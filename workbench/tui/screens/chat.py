"""Chat: talk to a run, a checkpoint or a model, alone or beside its base."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.widgets import Static

from workbench.tui.screens.base import WorkbenchScreen


class ChatScreen(WorkbenchScreen):
    """Talk to a model and see what training changed."""

    MODE: ClassVar[str] = "chat"

    def __init__(self) -> None:
        super().__init__()
        self._target: str | None = None

    def set_target(self, target: str) -> None:
        """Load a model, folder, run or checkpoint; may be called before the screen is shown."""
        self._target = target

    def compose_body(self) -> ComposeResult:
        """A sentence that says what to do."""
        yield Static("Choose a finished run to talk to it.", classes="empty")
