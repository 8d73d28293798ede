"""One question with one line of an answer."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from workbench.tui.format import plain_title


class PromptScreen(ModalScreen[str | None]):
    """Dismissed with what was typed, None when left."""

    DEFAULT_CSS = """
    PromptScreen { align: center middle; }
    PromptScreen > Vertical {
        width: 70; max-width: 95%; height: auto; border: round $primary; background: $surface; padding: 0 1;
    }
    PromptScreen Input { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Close")]

    def __init__(self, question: str, value: str = "") -> None:
        super().__init__()
        self._question = question
        self._value = value

    def compose(self) -> ComposeResult:
        """The line."""
        with Vertical() as panel:
            panel.border_title = plain_title(self._question)
            panel.border_subtitle = "enter · esc closes"
            yield Input(self._value, compact=True, select_on_focus=False)

    @on(Input.Submitted)
    def _done(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())
