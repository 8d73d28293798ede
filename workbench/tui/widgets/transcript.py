"""One side of a conversation: prompts, answers as they come, and a line of figures under each."""

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from workbench.engine.chat_client import Side
from workbench.engine.chat_conversation import Answer, Turn
from workbench.engine.text import sanitise
from workbench.tui.format import plain_title


class TurnView(Static):
    """A prompt and its answer."""

    DEFAULT_CSS = "TurnView { height: auto; margin: 0 0 1 0; padding: 0 1 0 0; }"

    def __init__(self, turn: Turn, side: Side) -> None:
        super().__init__(turn_content(turn, side), markup=False)


class Transcript(VerticalScroll):
    """The turns of one side, kept scrolled to the end until the user scrolls up."""

    DEFAULT_CSS = """
    Transcript { width: 1fr; height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
    /* An anchored container scrolls short content to the bottom: let there be none. */
    Transcript > #turns { height: auto; min-height: 100%; }
    Transcript > .empty { display: none; height: 1fr; }
    Transcript.-empty > .empty { display: block; }
    Transcript.-empty > #turns { display: none; }
    """

    def __init__(self, side: Side) -> None:
        super().__init__(id=side, classes="panel -empty")
        self.side: Side = side
        self._views: list[TurnView] = []

    def compose(self) -> ComposeResult:
        """The turns, or what to do while there are none."""
        yield Static(classes="empty", markup=False)
        yield Vertical(id="turns")

    def on_mount(self) -> None:
        """Stay at the end."""
        self.anchor()

    def set_title(self, title: str) -> None:
        """The model's id, always in view."""
        self.border_title = plain_title(title)

    def set_hint(self, text: str) -> None:
        """The words shown while there are no turns."""
        self.query_one(".empty", Static).update(Content(text))

    def show_turns(self, turns: list[Turn]) -> None:
        """Show these turns instead of what is shown."""
        for view in self._views:
            view.remove()
        self._views = []
        for turn in turns:
            self.add_turn(turn)
        self.set_class(not turns, "-empty")

    def add_turn(self, turn: Turn) -> None:
        """Show one more turn, at the end."""
        view = TurnView(turn, self.side)
        self._views.append(view)
        self.set_class(False, "-empty")
        self.query_one("#turns").mount(view)
        self.anchor()

    def update_turn(self, index: int, turn: Turn) -> None:
        """Show what became of a turn."""
        self._views[index].update(turn_content(turn, self.side))


def turn_content(turn: Turn, side: Side) -> Content:
    """A turn as plain content: nothing in it is markup."""
    return Content("\n").join([Content.assemble(("› ", "bold $primary"), (turn.prompt, "bold")),
                               *_answer_lines(turn.answers.get(side))])


def _answer_lines(answer: Answer | None) -> list[Content]:
    if answer is None:
        return [Content.styled("…", "$foreground 55%")]
    lines = [Content(sanitise(answer.text))] if answer.text else []
    if answer.failure:
        lines.append(Content.styled(sanitise(answer.failure), "$error"))
    if answer.statistics:
        lines.append(Content.styled(answer.statistics, "$foreground 55%"))
    return lines or [Content.styled("…", "$foreground 55%")]
