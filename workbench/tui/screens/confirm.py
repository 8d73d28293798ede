"""A question that is answered with yes or no."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from workbench.engine.text import sanitise
from workbench.tui.format import plain_title


class ConfirmScreen(ModalScreen[bool]):
    """Dismissed with True for yes. The keys are y and n; enter presses what has the focus, at first the refusal.
    Without a `yes` there is only that."""

    DEFAULT_CSS = """
    ConfirmScreen { align: center middle; }
    ConfirmScreen > Vertical {
        width: 64; max-width: 95%; height: auto; border: round $warning; background: $surface; padding: 0 1;
    }
    ConfirmScreen VerticalScroll {
        height: auto; max-height: 65vh; scrollbar-size-vertical: 1; scrollbar-color: $border;
    }
    ConfirmScreen Static { height: auto; padding: 0 1; color: $foreground 75%; }
    ConfirmScreen Horizontal { height: auto; margin-top: 1; align-horizontal: right; }
    ConfirmScreen Button { margin-left: 2; min-width: 8; background: $panel; }
    ConfirmScreen Button:focus { background: $primary 40%; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("n,escape", "dismiss(False)", "No"),
        Binding("down,pagedown", "scroll(1)", "Scroll down", show=False),
        Binding("up,pageup", "scroll(-1)", "Scroll up", show=False),
        Binding("left,right", "app.focus_next", "Other answer", show=False),
    ]

    def __init__(self, question: str, detail: str | Content, yes: str | None = "Yes", no: str = "No") -> None:
        super().__init__()
        self._question = question
        self._detail = detail
        self._yes = yes
        self._no = no

    def compose(self) -> ComposeResult:
        """The question, what it means, two answers."""
        with Vertical() as panel:
            panel.border_title = plain_title(self._question)
            panel.border_subtitle = "y yes · n no" if self._yes else "esc closes"
            with VerticalScroll(can_focus=False):
                yield Static(sanitise(self._detail) if isinstance(self._detail, str) else self._detail, markup=False)
            with Horizontal():
                yield Button(self._no, id="no", compact=True)
                if self._yes:
                    yield Button(self._yes, id="yes", compact=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A yes only where one can be given."""
        return not (action == "dismiss" and parameters == (True,) and self._yes is None)

    def action_scroll(self, by: int) -> None:
        """Show more of what it means."""
        self.query_one(VerticalScroll).scroll_relative(y=4 * by, animate=False)

    @on(Button.Pressed)
    def _answered(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")
