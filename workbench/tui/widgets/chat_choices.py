"""The list of what can be chatted with: trained runs, newest first, and the built-in model."""

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from workbench.engine.catalog.models import BUILTIN_MODEL
from workbench.engine.chat_target import chat_runs
from workbench.engine.runs.store import RunSummary
from workbench.tui.format import STATE_STYLES, age

_MUTED = "$foreground 55%"


class ChatChoices(OptionList):
    """An option's id is a chat target."""

    DEFAULT_CSS = "ChatChoices { scrollbar-size-vertical: 1; }"

    def __init__(self, id: str) -> None:
        super().__init__(id=id, classes="panel", markup=False)
        self._shown: list[RunSummary] | None = None

    def on_mount(self) -> None:
        """Its title."""
        self.border_title = "Chat with"

    def update_runs(self, runs: Sequence[RunSummary]) -> None:
        """Show those of the runs that have something to chat with; the cursor stays where it is."""
        able = chat_runs(runs)
        if able == self._shown:
            return
        self._shown = able
        kept = self.highlighted or 0
        width = max(len(name) for name in (BUILTIN_MODEL, *(run.run.name for run in able)))
        self.clear_options()
        self.add_options([*(Option(_run_line(run, width), id=run.id) for run in able),
                          Option(_line(BUILTIN_MODEL, width, ("  the built-in model", _MUTED)), id=BUILTIN_MODEL)])
        self.highlighted = min(kept, self.option_count - 1)
        self.border_subtitle = "" if able else "no run has a model yet: workbench demo trains one in a minute"


def _run_line(summary: RunSummary, width: int) -> Content:
    return _line(summary.run.name, width, (f"  {summary.state:<8}", STATE_STYLES[summary.state]),
                 (f"  step {summary.step:<6}  {age(summary.started):>9}", _MUTED))


def _line(name: str, width: int, *parts: tuple[str, str]) -> Content:
    return Content.assemble(name.ljust(width), *parts)
