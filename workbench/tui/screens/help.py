"""The keys of a screen, shown by `?`."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static


def _own_actions(kind: type) -> set[str]:
    """The actions that the workbench's own classes bind."""
    own = (cls for cls in kind.__mro__ if cls.__module__.startswith("workbench."))
    return {binding.action for cls in own for binding in cls.__dict__.get("BINDINGS", ())}


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
        found: dict[str, tuple[str, str]] = {}
        for node, binding, enabled, _ in screen.active_bindings.values():
            # Our own only: every list and field of Textual brings a dozen more that people know.
            if binding.description and enabled and binding.action in _own_actions(type(node)):
                found.setdefault(binding.action, (screen.app.get_key_display(binding), binding.description))
        return list(found.values())

    def compose(self) -> ComposeResult:
        """A list of keys."""
        with VerticalScroll() as panel:
            panel.border_title = "Keys"
            panel.border_subtitle = "esc closes"
            lines = [Content.assemble(Content.styled(f"{key:>10}  ", "bold $primary"), text)
                     for key, text in self._rows]
            yield Static(Content("\n").join(lines))
