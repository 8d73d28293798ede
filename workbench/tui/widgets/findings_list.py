"""What the data check found, one line each; enter goes to the first of the rows it concerns."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from textual import on
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from workbench.engine.data.findings import Finding
from workbench.engine.text import one_line

_MUTED = "$foreground 55%"
_PLACES = 6


class FindingsList(OptionList):
    """Findings with counts, reasons and places. Posts `Chosen` for a place to go to."""

    DEFAULT_CSS = """
    FindingsList {
        height: auto; background: $background; padding: 0 1; border: round $border; scrollbar-gutter: stable;
        scrollbar-size-vertical: 1; scrollbar-background: $background; scrollbar-color: $border;
        border-title-color: $warning; border-subtitle-color: $foreground 50%;
    }
    FindingsList:focus { border: round $primary 70%; background-tint: $foreground 0%; }
    FindingsList > .option-list--option-highlighted { background: $block-cursor-background; }
    """

    @dataclass
    class Chosen(Message):
        """The user wants to see the row at a place such as `file:7`."""

        place: str

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._findings: tuple[Finding, ...] = ()
        self._refused: frozenset[str] = frozenset()
        self.border_title = "Findings"

    def show(self, findings: Sequence[Finding], refused: Sequence[Finding]) -> None:
        """Show these; `refused` are those that keep a run from starting."""
        fresh, bad = tuple(findings), frozenset(finding.id for finding in refused)
        if (fresh, bad) != (self._findings, self._refused):
            self._findings, self._refused = fresh, bad
            self.set_class(bool(fresh), "-some")
            self._draw()

    def on_resize(self) -> None:
        """Lines are made for a width."""
        self._draw()

    def _draw(self) -> None:
        marked = self.highlighted or 0
        self.clear_options()
        width = max(self.content_size.width, 20)
        self.add_options([Option(finding_content(finding, width, finding.id not in self._refused))
                          for finding in self._findings])
        if self._findings:
            self.highlighted = min(marked, len(self._findings) - 1)
        self.border_subtitle = "enter shows the row" if self._findings else ""
        self.refresh(layout=True)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        places = self._findings[event.option_index].places
        if places:
            self.post_message(self.Chosen(places[0]))


def finding_content(finding: Finding, width: int, allowed: bool = False) -> Content:
    """A finding in plain words: what, how often, where, how to mend it."""
    lines = [Content.styled(line, "$foreground")
             for line in textwrap.wrap(one_line(finding.message, 400), width) or [finding.id]]
    places = ", ".join(finding.places[:_PLACES])
    if places and finding.places[0] not in finding.message:
        more = " and others" if finding.count > _PLACES else ""
        lines += [Content.styled(line, _MUTED) for line in textwrap.wrap(f"at {places}{more}", width)]
    remark = "Allowed by the recipe." if allowed else finding.hint or ""
    lines += [Content.styled(line, _MUTED) for line in textwrap.wrap(one_line(remark, 300), width)]
    return Content("\n").join(lines)
