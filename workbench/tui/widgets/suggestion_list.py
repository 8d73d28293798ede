"""What would make the chosen tuning fit: a list, cheapest first; the marked one can be applied to the form."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual import on
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from workbench.engine.memory.suggestions import Suggestion
from workbench.tui.format import gib
from workbench.tui.widgets.device_fits import FIT_STYLES

_MOST = 5


class SuggestionList(OptionList):
    """Hidden while there is nothing to suggest. Posts `Chosen` on enter or a click."""

    DEFAULT_CSS = """
    SuggestionList {
        height: auto; display: none; background: $background; padding: 0 1;
        border: round $border; border-title-color: $warning; border-subtitle-color: $foreground 50%;
    }
    SuggestionList:focus { border: round $primary 70%; background-tint: $foreground 0%; }
    SuggestionList.-some { display: block; }
    SuggestionList > .option-list--option-highlighted { background: $block-cursor-background; }
    """

    @dataclass
    class Chosen(Message):
        """The user wants a suggestion applied."""

        suggestion: Suggestion

    def __init__(self) -> None:
        super().__init__(markup=False)
        self.suggestions: tuple[Suggestion, ...] = ()

    def show(self, suggestions: Sequence[Suggestion]) -> None:
        """Show others; the marked place stays where it is."""
        if tuple(suggestions[:_MOST]) == self.suggestions:
            return
        self.suggestions = tuple(suggestions[:_MOST])
        marked = self.highlighted
        self.clear_options()
        self.add_options([Option(_line(suggestion)) for suggestion in self.suggestions])
        if self.suggestions:
            self.highlighted = min(marked or 0, len(self.suggestions) - 1)
        self.set_class(bool(self.suggestions), "-some")

    @property
    def marked(self) -> Suggestion | None:
        """The suggestion under the cursor."""
        return self.suggestions[self.highlighted] if self.suggestions and self.highlighted is not None else None

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Chosen(self.suggestions[event.option_index]))


def _line(suggestion: Suggestion) -> Content:
    return Content.assemble(suggestion.words, (f"  {gib(suggestion.peak_bytes)} ", "$foreground 55%"),
                            (suggestion.fit, FIT_STYLES[suggestion.fit]))
