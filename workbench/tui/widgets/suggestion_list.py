"""What would make the chosen tuning fit: a list, cheapest first; the marked one can be applied to the form."""

import textwrap
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


class SuggestionList(OptionList):
    """Hidden while there is nothing to suggest. The first that fits is marked. Posts `Chosen` on enter or a click."""

    DEFAULT_CSS = """
    SuggestionList {
        height: auto; max-height: 14; display: none; background: $background; padding: 0 1;
        scrollbar-size-vertical: 1; scrollbar-background: $background; scrollbar-color: $border;
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
        """Show others."""
        if tuple(suggestions) == self.suggestions:
            return
        self.suggestions = tuple(suggestions)
        self.set_class(bool(self.suggestions), "-some")
        verdicts = [suggestion.fit for suggestion in self.suggestions]
        best = next((fit for fit in ("fits", "tight") if fit in verdicts), None)
        self._draw(verdicts.index(best) if best else 0)

    def on_resize(self) -> None:
        """Lines are made for a width."""
        self._draw(self.highlighted or 0)

    def _draw(self, marked: int) -> None:
        self.clear_options()
        width = max(self.content_size.width, 20)
        self.add_options([Option(_line(suggestion, width)) for suggestion in self.suggestions])
        if self.suggestions:
            self.highlighted = marked

    @property
    def marked(self) -> Suggestion | None:
        """The suggestion under the cursor."""
        return self.suggestions[self.highlighted] if self.suggestions and self.highlighted is not None else None

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Chosen(self.suggestions[event.option_index]))


def _line(suggestion: Suggestion, width: int) -> Content:
    """The words, and the new peak with its verdict at the right edge: on the same line, or on the next where tight."""
    figures = Content.assemble((f"{gib(suggestion.peak_bytes)}  ", "$foreground 55%"),
                               (f"{suggestion.fit:<5}", FIT_STYLES[suggestion.fit]))
    *before, last = textwrap.wrap(suggestion.words, width) or [""]
    if len(last) + 2 + figures.cell_length > width:
        before, last = [*before, last], ""
    gap = " " * max(width - len(last) - figures.cell_length, 0)
    return Content("\n").join([*map(Content, before), Content.assemble(last, gap, figures)])
