"""Explain: the arithmetic of a tuning or an objective on the model that is planned, over the screen below."""

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from workbench.engine.errors import InputError
from workbench.engine.explain.document import Explanation, Section
from workbench.engine.explain.topics import TOPICS, Subject, explain
from workbench.tui.format import plain_title
from workbench.tui.widgets.explanation_view import ExplanationView

_LARGEST_RANK = 1024


class ExplainScreen(ModalScreen[None]):
    """Left and right change the topic, plus and minus the rank; the rest scrolls."""

    DEFAULT_CSS = """
    ExplainScreen { align: center middle; }
    ExplainScreen > Vertical {
        width: 96; max-width: 96%; height: 94%; border: round $primary; background: $surface; padding: 0 1;
        border-title-color: $primary; border-subtitle-color: $foreground 55%;
    }
    ExplainScreen #topics {
        height: auto; margin-bottom: 1; color: $foreground 55%; link-color: $foreground 55%; link-style: none;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,e,f1,q", "dismiss", "Close"),
        Binding("right", "topic(1)", "Next topic", priority=True),
        Binding("left", "topic(-1)", "Previous topic", priority=True),
        Binding("plus,equals_sign", "rank(2)", "Double the rank", key_display="+"),
        Binding("minus", "rank(0.5)", "Halve the rank", key_display="-"),
    ]

    def __init__(self, topic: str, subject: Subject) -> None:
        super().__init__()
        self.topic = topic
        self.subject = subject

    def compose(self) -> ComposeResult:
        """Topics above, the explanation below."""
        with Vertical() as panel:
            panel.border_subtitle = ("left/right topic · +/- rank · up/down scroll · esc closes" if not self._ascii
                                     else "left/right topic, +/- rank, up/down scroll, esc closes")
            yield Static(id="topics")
            yield ExplanationView()

    def on_mount(self) -> None:
        """Explain what was asked for."""
        self._explain()

    def action_topic(self, by: int) -> None:
        """A neighbouring topic."""
        self.action_choose(TOPICS[(TOPICS.index(self.topic) + by) % len(TOPICS)])

    def action_choose(self, topic: str) -> None:
        """This topic."""
        self.topic = topic
        self._explain()

    def action_rank(self, factor: float) -> None:
        """Another LoRA rank."""
        rank = min(max(round(self.subject.case.lora_r * factor), 1), _LARGEST_RANK)
        self.subject = self.subject.with_rank(rank)
        self._explain()

    @property
    def _ascii(self) -> bool:
        return bool(getattr(self.app, "ascii_only", False))

    @work(thread=True, exclusive=True)
    def _explain(self) -> None:
        topic, subject = self.topic, self.subject
        try:
            found = explain(topic, subject)
        except InputError as error:
            words = f"{error.message} {error.hint or ''}".strip()
            found = Explanation(topic, topic, (Section(topic, (words,)),), {})
        if (topic, subject) == (self.topic, self.subject):
            self.app.call_from_thread(self._show, found)

    def _show(self, found: Explanation) -> None:
        if not self.is_mounted:
            return
        names = [Content.styled(topic, "bold $primary") if topic == found.topic
                 else Content.from_markup(f"[@click=screen.choose('{topic}')]{topic}[/]") for topic in TOPICS]
        self.query_one("#topics", Static).update(Content(" ").join(names))
        rank = f", r = {self.subject.case.lora_r}" if found.topic in ("lora", "qlora") else ""
        dot = "-" if self._ascii else "·"
        self.query_one(Vertical).border_title = plain_title(f"{found.title} {dot} {self.subject.name}{rank}")
        self.query_one(ExplanationView).show(found, self._ascii)
