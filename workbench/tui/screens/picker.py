"""Choosing one of many: type to filter, Enter to take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from workbench.engine.text import one_line
from workbench.tui.format import plain_title


@dataclass(frozen=True)
class Pick:
    """Something to choose: its `value`, and a `note` shown beside it."""

    value: str
    note: str


class PickerScreen(ModalScreen[str | None]):
    """A list with a filter; dismissed with the chosen value, None when left."""

    DEFAULT_CSS = """
    PickerScreen { align: center middle; }
    PickerScreen > Vertical {
        width: 74; max-width: 95%; height: 80%; border: round $primary; background: $surface; padding: 0 1;
    }
    PickerScreen Input { height: 1; margin-bottom: 1; background: $panel; }
    PickerScreen OptionList { height: 1fr; border: none; background: $surface; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Close"),
        Binding("down", "move(1)", show=False), Binding("up", "move(-1)", show=False),
    ]

    def __init__(self, title: str, picks: Sequence[Pick]) -> None:
        super().__init__()
        self._title = title
        self._picks = picks

    def compose(self) -> ComposeResult:
        """Filter and list."""
        with Vertical() as panel:
            panel.border_title = plain_title(self._title)
            panel.border_subtitle = "type to filter · enter takes · esc closes"
            yield Input(placeholder="filter", compact=True)
            yield OptionList()

    def on_mount(self) -> None:
        """Show everything."""
        self._show("")

    @on(Input.Changed)
    def _filter(self, event: Input.Changed) -> None:
        self._show(event.value)

    def _show(self, words: str) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        wanted = words.lower().split()
        for pick in self._picks:
            if all(word in f"{pick.value} {pick.note}".lower() for word in wanted):
                value, note = one_line(pick.value, 200), one_line(pick.note, 200)
                line = Content.assemble(f"{value:<38} ", (note, "$foreground 55%"))
                options.add_option(Option(line, id=pick.value))
        options.highlighted = 0 if options.option_count else None

    def action_move(self, by: int) -> None:
        """Move in the list while typing."""
        options = self.query_one(OptionList)
        (options.action_cursor_down if by > 0 else options.action_cursor_up)()

    @on(Input.Submitted)
    def _take(self) -> None:
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self.dismiss(options.get_option_at_index(options.highlighted).id)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)
