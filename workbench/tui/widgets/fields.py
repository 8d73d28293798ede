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

from workbench.engine.objectives import OBJECTIVES
from workbench.tui.widgets.field_text import FieldKind, read_text, value_to_text


@dataclass(frozen=True)
class FieldSpec:
    """One setting in a form: its dotted `key` in a recipe, how it is labelled and edited."""

    key: str
    label: str
    choices: tuple[tuple[Any, str], ...] = ()
    """(value, title) for a setting with few values; empty for free text."""
    tunings: tuple[str, ...] = ("full", "lora", "qlora")
    """The tunings it matters for."""
    objectives: tuple[str, ...] = tuple(OBJECTIVES)
    """The objectives it matters for."""
    kind: FieldKind = "scalar"
    """How free text is read."""
    picker: Literal["model", "dataset", "template"] | None = None
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
        ascii = getattr(self.app, "ascii_only", False)
        left, right = ("< ", " >") if ascii else ("◂ ", " ▸")
        title = Content(self._choices[self.index][1])
        # The right arrow stays in sight: it says that there are more.
        title = title.truncate(max(self.size.width - 4, 1), ellipsis=not ascii)
        return Content.assemble((left, "$foreground 45%"), title, (right, "$foreground 45%"))

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
    Field .remark { color: $warning; padding-left: 1; height: auto; }
    Field.invalid .remark { color: $error; }
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
        self._shown = ""
        self._choice: Choice | None = None
        self._error = self._note = self._remarked = ""
        self._remark: Static | None = None
        if spec.choices:
            self._choice = Choice(spec.choices, value)
        else:
            self._shown = value_to_text(value)
            self._input = Input(self._shown, placeholder=placeholder, compact=True, select_on_focus=False)

    def compose(self) -> ComposeResult:
        """Label and value."""
        with Horizontal():
            yield Label(self.spec.label, classes="label")
            control = self._choice or self._input
            assert control is not None
            yield control

    @property
    def value(self) -> Any:
        """The value as a recipe would hold it."""
        if self._choice is not None:
            return self._choice.value
        assert self._input is not None
        return read_text(self._input.value, self.spec.kind)

    def show(self, value: Any, placeholder: str | None = None) -> None:
        """Show a value without telling anybody."""
        if self._choice is not None:
            self._choice.show(value)
        elif self._input is not None:
            with self.prevent(Input.Changed):
                self._shown = self._input.value = value_to_text(value)
            if placeholder is not None:
                self._input.placeholder = placeholder

    def show_error(self, message: str | None) -> None:
        """Show what is wrong right here, or that nothing is."""
        self._error = message or ""
        self._show_remark()

    def show_note(self, note: str) -> None:
        """Say something about the value, where nothing is wrong with it."""
        self._note = note
        self._show_remark()

    def _show_remark(self) -> None:
        remark = self._error or self._note
        self.set_class(bool(self._error), "invalid")
        if remark == self._remarked:
            return
        self._remarked = remark
        # A form has many fields, and few of them are remarkable: the line is there when it is needed.
        if self._remark is None:
            self._remark = Static(remark, classes="remark", markup=False)
            self.mount(self._remark)
        self._remark.display = bool(remark)
        self._remark.update(remark)

    @on(Input.Changed)
    @on(Choice.Changed)
    def _tell(self, event: Message) -> None:
        event.stop()
        if isinstance(event, Input.Changed):
            # A new Input tells of the value that it was made with.
            if event.value == self._shown:
                return
            self._shown = event.value
        self.post_message(self.Changed(self))

    @on(Input.Submitted)
    def _pick(self, event: Input.Submitted) -> None:
        event.stop()
        if self.spec.picker is not None:
            self.post_message(self.PickRequested(self))
