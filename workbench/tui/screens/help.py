"""The keys of a screen, shown by `?`."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static


class HelpScreen(ModalScreen[None]):
    """Every key that works on the screen below."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll {
        width: 56; max-width: 90%; height: auto; max-height: 90%;
        border: round $primary; padding: 0 2; background: $surface;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "Close")]

    def __init__(self, below: Screen[object]) -> None:
        super().__init__()
        self._rows = self._keys(below)

    @staticmethod
    def _keys(screen: Screen[object]) -> list[tuple[str, str]]:
        found: dict[str, str] = {}
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.description and not binding.system:
                key = screen.app.get_key_display(binding)
                found.setdefault(binding.description, key)
        return [(key, description) for description, key in found.items()]

    def compose(self) -> ComposeResult:
        """A list of keys."""
        with VerticalScroll() as panel:
            panel.border_title = "Keys"
            panel.border_subtitle = "esc closes"
            lines = [Content.assemble(Content.styled(f"{key:>10}  ", "bold $primary"), text)
                     for key, text in self._rows]
            yield Static(Content("\n").join(lines))
