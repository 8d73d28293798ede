"""Form fields one line high: a label, a value, and an error that stands right below it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from textual import on
from textual.app import ComposeResult, RenderResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input, Label, Static


@dataclass(frozen=True)
class FieldSpec:
    """One setting in a form: its dotted `key` in a recipe, how it is labelled and edited."""

    key: str
    label: str
    choices: tuple[tuple[Any, str], ...] = ()
    """(value, title) for a setting with few values; empty for free text."""
    tunings: tuple[str, ...] = ("full", "lora", "qlora")
    """The tunings it matters for."""
    picker: Literal["model", "dataset"] | None = None
    more: bool = False
    """Folded away until asked for."""


class Choice(Widget, can_focus=True):
    """A value out of few: left and right change it, so does a click."""

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; }
    Choice:focus { background: $block-cursor-background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Previous", show=False),
        Binding("right,space,enter", "step(1)", "Next", show=False),
    ]
    index: reactive[int] = reactive(0)

    @dataclass
    class Changed(Message):
        """Another value was chosen."""

        choice: "Choice"

    def __init__(self, choices: Sequence[tuple[Any, str]], value: Any) -> None:
        super().__init__()
        self._choices = list(choices)
        self.show(value)

    @property
    def value(self) -> Any:
        """The chosen value."""
        return self._choices[self.index][0]

    def show(self, value: Any) -> None:
        """Choose a value; one that is not among the choices joins them."""
        values = [choice[0] for choice in self._choices]
        if value not in values:
            self._choices.append((value, str(value)))
            values.append(value)
        self.set_reactive(Choice.index, values.index(value))
        self.refresh()

    def render(self) -> RenderResult:
        """◂ title ▸, or the title alone when there is nothing to choose."""
        if len(self._choices) == 1:
            return Content(self._choices[0][1])
        left, right = ("< ", " >") if getattr(self.app, "ascii_only", False) else ("◂ ", " ▸")
        return Content.assemble((left, "$foreground 45%"), self._choices[self.index][1], (right, "$foreground 45%"))

    def action_step(self, by: int) -> None:
        """Choose a neighbour."""
        self.index = (self.index + by) % len(self._choices)
        self.post_message(self.Changed(self))

    def on_click(self) -> None:
        """The next value."""
        self.action_step(1)


class Field(Widget):
    """A label and its value. Posts `Changed` when the user changes it."""

    DEFAULT_CSS = """
    Field { height: auto; layout: vertical; }
    Field Horizontal { height: 1; }
    Field .label { width: 14; color: $foreground 65%; }
    Field Input { width: 1fr; height: 1; background: $surface; }
    Field Input:focus { background: $block-cursor-background; }
    Field .error { color: $error; display: none; padding-left: 1; height: auto; }
    Field.invalid .error { display: block; }
    Field.invalid .label { color: $error; }
    """

    @dataclass
    class Changed(Message):
        """The user changed a field."""

        field: "Field"

    @dataclass
    class PickRequested(Message):
        """The user wants to choose from a list."""

        field: "Field"

    def __init__(self, spec: FieldSpec, value: Any, placeholder: str = "") -> None:
        super().__init__()
        self.spec = spec
        self._input: Input | None = None
        self._choice: Choice | None = None
        if spec.choices:
            self._choice = Choice(spec.choices, value)
        else:
            self._input = Input(value_to_text(value), placeholder=placeholder, compact=True, select_on_focus=False)

    def compose(self) -> ComposeResult:
        """Label, value, error."""
        with Horizontal():
            yield Label(self.spec.label, classes="label")
            control = self._choice or self._input
            assert control is not None
            yield control
        yield Static("", classes="error", markup=False)

    @property
    def value(self) -> Any:
        """The value as a recipe would hold it."""
        if self._choice is not None:
            return self._choice.value
        assert self._input is not None
        return text_to_value(self._input.value)

    def show(self, value: Any, placeholder: str | None = None) -> None:
        """Show a value without telling anybody."""
        if self._choice is not None:
            self._choice.show(value)
        elif self._input is not None:
            with self.prevent(Input.Changed):
                self._input.value = value_to_text(value)
            if placeholder is not None:
                self._input.placeholder = placeholder

    def show_error(self, message: str | None) -> None:
        """Show what is wrong right here, or that nothing is."""
        self.set_class(message is not None, "invalid")
        self.query_one(".error", Static).update(message or "")

    @on(Input.Changed)
    @on(Choice.Changed)
    def _tell(self, event: Message) -> None:
        event.stop()
        self.post_message(self.Changed(self))

    @on(Input.Submitted)
    def _pick(self, event: Input.Submitted) -> None:
        event.stop()
        if self.spec.picker is not None:
            self.post_message(self.PickRequested(self))


def text_to_value(text: str) -> Any:
    """What the user typed, as YAML would read a scalar: a number, nothing, a list after commas, or text."""
    text = text.strip()
    if text in ("", "null", "~"):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if "," in text:
        return [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    return text


def value_to_text(value: Any) -> str:
    """The text that `text_to_value` reads back as the value."""
    if value is None:
        return ""
    if isinstance(value, float):
        # 2e-4, as people write learning rates, not 0.0002.
        short = f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")
        return f"{value:.0e}".replace("e-0", "e-") if 0 < value < 1e-3 and float(f"{value:.0e}") == value else short
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
