"""The form of a recipe: the settings that matter first, the rest folded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from workbench.engine.objectives import OBJECTIVES
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import Problem, RecipeError, recipe_from_data
from workbench.engine.tuning import default_learning_rate
from workbench.tui.widgets.field_text import keep_part_settings, value_to_text
from workbench.tui.widgets.fields import Choice, Field, FieldSpec
from workbench.tui.widgets.plan_fields import FIELDS

# Words that stand for a list.
_ALONE = ("all-linear", "all")
# Lines of terminal from which folding hides nothing that would not fit.
_ROOM_FOR_ALL = 38
# What an emptied field means; model and dataset have no default and stay empty.
_DEFAULTS = Recipe(model="-", dataset={"path": "-"}).model_dump(mode="json") | {"model": "", "name": ""}  # type: ignore[arg-type]
_DEFAULTS["dataset"]["path"] = ""
# What a setting's docstring says of a value that is left out.
_LEFT_OUT = re.compile(r"(?:default|null): (.+?)(?:[.;](?:\s|$)|$)")


class PlanForm(VerticalScroll, can_focus=False):
    """Edits a recipe's data. Posts `Edited` with a recipe that holds, or with what is wrong."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "app.focus_next", "Next setting", show=False),
        Binding("up", "app.focus_previous", "Setting before", show=False),
    ]
    DEFAULT_CSS = """
    PlanForm .more { display: none; }
    PlanForm.unfolded .more { display: block; }
    PlanForm .unused { display: none; }
    PlanForm.unfolded .unused { display: none; }
    PlanForm Fold { height: 1; color: $foreground 55%; margin-top: 1; }
    PlanForm Fold:focus { background: $block-cursor-background; color: $foreground; }
    """

    @dataclass
    class Edited(Message):
        """The data changed; `recipe` is None when it does not hold, and `problems` say why."""

        recipe: Recipe | None
        problems: Sequence[Problem]

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(classes="panel")
        self._recipe = recipe
        self._data = recipe.model_dump(mode="json")

    def compose(self) -> ComposeResult:
        """A field for each setting that matters now, and the line that unfolds the rest."""
        yield from (self._new_field(spec) for spec in FIELDS if self._matters(spec) and not spec.more)
        yield Fold()

    def on_mount(self) -> None:
        """Stand where a key changes something harmless."""
        if self.app.size.height >= _ROOM_FOR_ALL:
            # What matters most is painted first.
            self.call_after_refresh(self.unfold, True)
        self._field("tuning").query_one(Choice).focus()

    def unfold(self, unfolded: bool) -> None:
        """Show the rest of the settings, or fold them away."""
        self.set_class(unfolded, "unfolded")
        self.query_one(Fold).show(unfolded)
        self._arrange()

    def _new_field(self, spec: FieldSpec) -> Field:
        field = Field(spec, _get(self._data, spec.key), self._placeholder(spec))
        field.set_class(spec.more, "more")
        return field

    def _matters(self, spec: FieldSpec) -> bool:
        return self._data.get("tuning") in spec.tunings and self._data.get("objective") in spec.objectives

    def _arrange(self) -> None:
        """Hide the fields that do not matter, and bring in those that now do."""
        there = {field.spec.key: field for field in self.query(Field)}
        before: Widget | None = None
        for spec in FIELDS:
            if spec.more and isinstance(before, Field) and not before.spec.more:
                before = self.query_one(Fold)
            field = there.get(spec.key)
            matters = self._matters(spec)
            if field is None and matters and (not spec.more or self.has_class("unfolded")):
                field = self._new_field(spec)
                self.mount(field, after=before)
            elif field is not None:
                field.set_class(not matters, "unused")
            before = field or before

    @property
    def recipe(self) -> Recipe:
        """The last recipe that held; the screen may not have heard of it yet."""
        return self._recipe

    def load(self, recipe: Recipe) -> None:
        """Show another recipe."""
        self._recipe = recipe
        self._data = recipe.model_dump(mode="json")
        self.set_values({})

    def set_value(self, key: str, value: Any) -> None:
        """Set one field, as if typed."""
        if not any(field.spec.key == key for field in self.query(Field)):
            self.set_values({key: value})
            return
        field = self._field(key)
        field.show(value)
        self._take(field)

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Set several settings at once, those without a field too, and tell of the result once."""
        for key, value in values.items():
            _set(self._data, key, value)
        for field in self.query(Field):
            field.show(_get(self._data, field.spec.key), self._placeholder(field.spec))
        self._arrange()
        self._tell()

    @property
    def focused_key(self) -> str | None:
        """The dotted key of the field that has the focus."""
        return next((field.spec.key for field in self.query(Field) if field.has_focus_within), None)

    def show_problems(self, problems: Mapping[str, str]) -> None:
        """Show each problem (dotted field → sentence) at its field, or at the one whose part it is."""
        at: dict[str, str] = {}
        for key, message in problems.items():
            spec = next((spec for spec in FIELDS if f"{key}.".startswith(f"{spec.key}.")), None)
            if spec is not None:
                at.setdefault(spec.key, message)
        if any(spec.key in at and spec.more for spec in FIELDS) and not self.has_class("unfolded"):
            self.unfold(True)
        for field in self.query(Field):
            field.show_error(at.get(field.spec.key))

    def show_note(self, key: str, note: str) -> None:
        """Say something about a field's value that is no fault; empty: nothing."""
        self._field(key).show_note(note)

    def help_of(self, field: Field) -> str:
        """What a field means, from the recipe's own docstrings; of the objective, what its data is like."""
        if field.spec.key == "objective" and (objective := OBJECTIVES.get(field.value)):
            return f"{objective.title}. Its data: {objective.data}."
        return _description(field.spec.key)

    @on(Field.Changed)
    def _changed(self, event: Field.Changed) -> None:
        event.stop()
        self._take(event.field)

    def _take(self, field: Field) -> None:
        key, value = field.spec.key, field.value
        default = _get(_DEFAULTS, key)
        if value is None:
            value = default
        if isinstance(value, int) and isinstance(default, float):
            value = float(value)
        if key in ("lora.target_modules", "data.allow") and isinstance(value, str) and value not in _ALONE:
            value = [value]
        if field.spec.kind == "sources":
            value = keep_part_settings(value, _get(self._data, key))
        _set(self._data, key, value)
        if key in ("tuning", "objective"):
            self._arrange()
            rate = self._field("training.learning_rate")
            rate.show(_get(self._data, rate.spec.key), self._placeholder(rate.spec))
        self._tell()

    def _field(self, key: str) -> Field:
        return next(field for field in self.query(Field) if field.spec.key == key)

    def _tell(self) -> None:
        try:
            self._recipe = recipe_from_data(self._data)
        except RecipeError as error:
            self.post_message(self.Edited(None, error.problems))
        else:
            self.post_message(self.Edited(self._recipe, ()))

    def _placeholder(self, spec: FieldSpec) -> str:
        if spec.key == "training.learning_rate":
            default = default_learning_rate(self._data.get("objective", "sft"), self._data.get("tuning", "lora"))
            return f"{value_to_text(default)} (default)"
        left_out = _LEFT_OUT.search(_description(spec.key))
        return "enter to choose" if spec.picker else left_out[1] if left_out else ""


class Fold(Static, can_focus=True):
    """The line that unfolds the rest of a form."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space,right,left", "unfold", "More", show=False)]

    def on_mount(self) -> None:
        """Say which key unfolds."""
        self.show(unfolded=False)

    def action_unfold(self) -> None:
        """Unfold or fold."""
        form = self.query_ancestor(PlanForm)
        form.unfold(not form.has_class("unfolded"))

    def show(self, unfolded: bool) -> None:
        """Say what enter does."""
        ascii = getattr(self.app, "ascii_only", False)
        mark = ("v" if ascii else "▾") if unfolded else (">" if ascii else "▸")
        self.update(f"{mark} More settings{'' if unfolded else ' (enter)'}")

    def on_click(self) -> None:
        """The same by mouse."""
        self.action_unfold()


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with other values of dotted settings. Raises RecipeError."""
    data = recipe.model_dump(mode="json")
    for key, value in settings.items():
        _set(data, key, value)
    return recipe_from_data(data)


def _description(key: str) -> str:
    model: Any = Recipe
    *parents, name = key.split(".")
    for parent in parents:
        model = model.model_fields[parent].annotation
    return " ".join(str(model.model_fields[name].description or "").split())


def _get(data: Any, key: str) -> Any:
    for part in key.split("."):
        data = data[int(part)] if isinstance(data, list) else data[part]
    return data


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    parent, _, last = key.rpartition(".")
    (_get(data, parent) if parent else data)[last] = value
