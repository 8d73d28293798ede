"""What the model answers to the same prompts as it learns, step by step."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from workbench.engine.runs.state import Sample
from workbench.engine.text import sanitise
from workbench.tui.format import plain_title

_NONE_YET = "No answers here yet: the prompts under samples in the recipe are answered while the model learns."
_NO_SCORES_YET = "No scores here yet: a reward model answers no prompts, it scores some answers at every sampling step."
_MUTED = "$foreground 55%"


class SamplesPane(VerticalScroll):
    """The answers at one sampling step; follows the newest until another is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "scrub(-1)", "Earlier", show=False),
        Binding("right", "scrub(1)", "Later", show=False),
    ]

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._taken = 0
        self._source: Sequence[Sample] = ()
        self._by_step: dict[int, dict[str, str]] = {}
        self._chosen: int | None = None
        self._answers = True

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(markup=False, expand=True)

    def on_mount(self) -> None:
        """Say that there is nothing yet."""
        self.clear()

    @property
    def step(self) -> int | None:
        """The sampling step that is shown; None without samples."""
        return self._chosen if self._chosen in self._by_step else max(self._by_step, default=None)

    def clear(self) -> None:
        """Forget everything: another run is shown."""
        self._source, self._taken, self._by_step, self._chosen, self._answers = (), 0, {}, None, True
        self._draw()

    def show(self, samples: Sequence[Sample], answers: bool = True) -> None:
        """Take in what is new; `samples` is all of the run's, in the order they were written: another object where
        some of them are void. `answers`: whether what is trained answers prompts; else it scores answers."""
        another = samples is not self._source
        if another:
            # The run went on from an earlier step: what it answered after that is no more.
            self._source, self._taken, self._by_step = samples, 0, {}
        fresh = samples[self._taken:]
        if not fresh and not another and answers == self._answers:
            return
        self._taken, self._answers = len(samples), answers
        for sample in fresh:
            self._by_step.setdefault(sample.step, {})[sample.prompt] = sample.text
        self._draw()

    def action_scrub(self, by: int) -> None:
        """Go to an earlier or later sampling step; at the last one, follow the newest again."""
        steps = sorted(self._by_step)
        if not steps or self.step is None:
            return
        index = min(max(steps.index(self.step) + by, 0), len(steps) - 1)
        self._chosen = None if index == len(steps) - 1 else steps[index]
        self._draw()

    def _draw(self) -> None:
        step = self.step
        self.border_title = "Samples" if step is None else f"Samples at step {step}"
        if step is None:
            self.border_subtitle = ""
            self.query_one(Static).update(Content.styled(_NONE_YET if self._answers else _NO_SCORES_YET, _MUTED))
            return
        steps = sorted(self._by_step)
        self.border_subtitle = plain_title(f"{steps.index(step) + 1} of {len(steps)} · [ earlier · ] later")
        before = self._by_step[steps[0]] if step != steps[0] else {}
        parts = [_answer(prompt, text, before.get(prompt), steps[0]) for prompt, text in self._by_step[step].items()]
        self.query_one(Static).update(Content("\n\n").join(parts))


def _answer(prompt: str, text: str, before: str | None, first_step: int) -> Content:
    parts: list[Content | str | tuple[str, str]] = [(sanitise(prompt), _MUTED), "\n", _text(text, "$foreground")]
    if before is not None and before != text:
        parts += ["\n", (f"at step {first_step}: ", "$foreground 40%"), _text(before, "$foreground 40%")]
    return Content.assemble(*parts)


def _text(text: str, style: str) -> Content:
    return Content.styled(sanitise(text), style) if text.strip() else Content.styled("(an empty answer)", "italic")
