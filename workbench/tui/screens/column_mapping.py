"""Which column is what: a format, a column for each of its parts, and what a row becomes with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Label, Static

from workbench.engine.data.examples import Rejected, examples_of
from workbench.engine.data.formats import USES, detect
from workbench.engine.data.values import Row
from workbench.engine.errors import InputError
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_data import DatasetPart
from workbench.engine.text import one_line
from workbench.tui.format import plain_title
from workbench.tui.row_reader import first_row
from workbench.tui.widgets.fields import Choice
from workbench.tui.widgets.row_view import example_contents, raw_text

PARTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "messages": (("messages",), ("system",)),
    "sharegpt": (("conversations",), ("system",)),
    "alpaca": (("instruction", "output"), ("input", "system")),
    "prompt-completion": (("prompt", "completion"), ("input", "system")),
    "preference": (("chosen", "rejected"), ("prompt", "system")),
    "kto": (("prompt", "completion", "label"), ("system",)),
    "accepted-rejected": (("chosen", "rejected"), ()),
    "text": (("text",), ()),
    "prompts": (("prompt",), ("completion", "system")),
}
"""For each format the parts that it needs and those that it may have, by our names."""

_MUTED = "$foreground 55%"


@dataclass(frozen=True)
class MappingOffer:
    """What can be mapped: a part of a dataset and its first row. `key` is where the part stands in the recipe."""

    objective: str
    part: DatasetPart
    row: Row
    key: str

    def settings(self, form: str, columns: Mapping[str, str]) -> dict[str, Any]:
        """The recipe's settings, dotted, for a choice; columns that are called as we call them need no mapping."""
        return {f"{self.key}.format": form,
                f"{self.key}.columns": {ours: theirs for ours, theirs in columns.items() if ours != theirs}}

    def chosen(self, form: str) -> dict[str, str]:
        """The columns that a format would take by itself, as the recipe maps them."""
        try:
            return dict(detect(self.row, self.objective, self.part.columns, form).columns)
        except InputError:
            return {ours: theirs for ours, theirs in (self.part.columns or {}).items() if theirs in self.row}


def mapping_offer(recipe: Recipe, base_dir: Path | None, source: str | None) -> MappingOffer:
    """What can be mapped of the part that holds `source`, or of the first. Raises InputError where it has no row."""
    parts = recipe.dataset.parts
    index = next((index for index, part in enumerate(parts) if source and source.startswith(part.path)), 0)
    part = parts[index]
    row = first_row(part, base_dir)
    if not row:
        raise InputError(f"{part.path} has no row whose columns could be named.")
    key = "dataset" if isinstance(recipe.dataset.path, str) else f"dataset.path.{index}"
    return MappingOffer(recipe.objective, part, row, key)


class ColumnMappingScreen(ModalScreen[dict[str, Any] | None]):
    """Dismissed with settings of a recipe, None when left."""

    DEFAULT_CSS = """
    ColumnMappingScreen { align: center middle; }
    ColumnMappingScreen > Vertical {
        width: 84; max-width: 96%; height: auto; max-height: 90%; border: round $primary; background: $surface;
        padding: 0 1;
    }
    ColumnMappingScreen Horizontal { height: 1; }
    ColumnMappingScreen Label { width: 24; color: $foreground 65%; }
    ColumnMappingScreen Horizontal.-needless { display: none; }
    ColumnMappingScreen VerticalScroll {
        height: auto; max-height: 16; margin-top: 1; scrollbar-size-vertical: 1; scrollbar-color: $border;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Close"),
        Binding("enter", "accept", "Use it", priority=True),
        Binding("down", "app.focus_next", show=False), Binding("up", "app.focus_previous", show=False),
    ]

    def __init__(self, offer: MappingOffer) -> None:
        super().__init__()
        self._offer = offer
        formats = tuple(USES[offer.objective])
        columns = (("", "–"), *((name, one_line(name, 40)) for name in map(str, offer.row)))
        self._format = Choice([(name, name) for name in formats], _detected(offer) or _likely(offer, formats))
        # What a format needs stands above what it may have.
        self._choices = {name: Choice(columns, "") for name in dict.fromkeys(
            name for needed in (0, 1) for form in formats for name in PARTS[form][needed])}

    def compose(self) -> ComposeResult:
        """The format, its parts, what comes of it."""
        with Vertical() as panel:
            panel.border_title = plain_title(f"Columns of {self._offer.part.path}")
            panel.border_subtitle = "left/right changes · enter uses it · esc closes"
            with Horizontal():
                yield Label("format")
                yield self._format
            for name, choice in self._choices.items():
                with Horizontal(id=f"part-{name}"):
                    yield Label(name)
                    yield choice
            with VerticalScroll(can_focus=False):
                yield Static(id="outcome", markup=False)

    def on_mount(self) -> None:
        """Begin with what the format takes by itself."""
        self._take_format()
        self._format.focus()

    @on(Choice.Changed)
    def _changed(self, event: Choice.Changed) -> None:
        if event.choice is self._format:
            self._take_format()
        else:
            self._show_outcome()

    def _take_format(self) -> None:
        needed, optional = PARTS[self._format.value]
        taken = self._offer.chosen(self._format.value)
        for name, choice in self._choices.items():
            used = name in (*needed, *optional)
            self.query_one(f"#part-{name}").set_class(not used, "-needless")
            self.query_one(f"#part-{name} Label", Label).update(name if name in needed else f"{name} (optional)")
            choice.show(taken.get(name, "") if used else "")
        self._show_outcome()

    @property
    def _columns(self) -> dict[str, str]:
        return {name: choice.value for name, choice in self._choices.items() if choice.value}

    def _show_outcome(self) -> None:
        self.query_one("#outcome", Static).update(outcome(self._offer, self._format.value, self._columns))

    def action_accept(self) -> None:
        """Use what is chosen."""
        self.dismiss(self._offer.settings(self._format.value, self._columns))


def outcome(offer: MappingOffer, form: str, columns: Mapping[str, str]) -> Content:
    """What the first row becomes, or why it becomes nothing; and the row itself."""
    part = offer.part.model_copy(update={"format": form, "columns": dict(columns)})
    try:
        found = next(iter(examples_of([(1, offer.row)], part, offer.objective, "row 1")))
    except InputError as error:
        first = Content.styled(f"{error.message} {error.hint or ''}".strip(), "$error")
    else:
        first = Content.styled(found.reason, "$error") if isinstance(found, Rejected) \
            else Content("\n").join(example_contents(found))
    return Content.assemble(("The first row becomes\n", _MUTED), first, ("\n\nand stands in the file as\n", _MUTED),
                            raw_text(offer.row))


def _likely(offer: MappingOffer, formats: Sequence[str]) -> str:
    """Where names tell nothing: lists may be conversations, texts are columns of their own."""
    lists = any(isinstance(value, list) for value in offer.row.values())
    return next((form for form in formats if (form in ("messages", "sharegpt")) == lists and form != "alpaca"),
                formats[0])


def _detected(offer: MappingOffer) -> str | None:
    try:
        return detect(offer.row, offer.objective, offer.part.columns, offer.part.format).name
    except InputError:
        return None
