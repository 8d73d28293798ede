"""The form of a recipe: the settings that matter first, the rest folded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Static

from workbench.engine.objectives import OBJECTIVES
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import Problem, RecipeError, recipe_from_data
from workbench.engine.tuning import TUNINGS, default_learning_rate
from workbench.tui.widgets.fields import Choice, Field, FieldSpec, value_to_text

_ADAPTERS = ("lora", "qlora")
_ON_OFF = ((True, "on"), (False, "off"))

FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("model", "Model", picker="model"),
    FieldSpec("dataset.path", "Dataset", picker="dataset"),
    FieldSpec("objective", "Objective", tuple((o.id, o.title) for o in OBJECTIVES.values())),
    FieldSpec("tuning", "Tuning", tuple((t.id, t.title) for t in TUNINGS.values())),
    FieldSpec("lora.lora_r", "LoRA rank", tunings=_ADAPTERS),
    FieldSpec("lora.lora_alpha", "LoRA alpha", tunings=_ADAPTERS),
    FieldSpec("training.per_device_train_batch_size", "Batch size"),
    FieldSpec("training.gradient_accumulation_steps", "Accumulate"),
    FieldSpec("training.max_length", "Max length"),
    FieldSpec("training.learning_rate", "Learning rate"),
    FieldSpec("training.num_train_epochs", "Epochs"),
    FieldSpec("training.max_steps", "Max steps"),
    FieldSpec("training.gradient_checkpointing", "Checkpointing", _ON_OFF),
    FieldSpec("name", "Name", more=True),
    FieldSpec("dataset.eval_path", "Eval dataset", picker="dataset", more=True),
    FieldSpec("dataset.eval_fraction", "Eval fraction", more=True),
    FieldSpec("lora.target_modules", "LoRA targets", tunings=_ADAPTERS, more=True),
    FieldSpec("lora.lora_dropout", "LoRA dropout", tunings=_ADAPTERS, more=True),
    FieldSpec("quantization.bits", "Bits", ((4, "4 (NF4)"), (8, "8")), tunings=("qlora",), more=True),
    FieldSpec("training.packing", "Packing", _ON_OFF, more=True),
    FieldSpec("training.optim", "Optimizer", more=True),
    FieldSpec("training.lr_scheduler_type", "Schedule", more=True),
    FieldSpec("training.warmup_steps", "Warm-up", more=True),
    FieldSpec("training.dtype", "Weights dtype", tuple((d, d) for d in ("auto", "bfloat16", "float16", "float32")),
              more=True),
    FieldSpec("training.seed", "Seed", more=True),
    FieldSpec("training.logging_steps", "Log every", more=True),
    FieldSpec("training.eval_steps", "Eval every", more=True),
    FieldSpec("training.save_steps", "Save every", more=True),
    FieldSpec("samples.every_steps", "Sample every", more=True),
)

# Lines of terminal from which folding hides nothing that would not fit.
_ROOM_FOR_ALL = 38
# What an emptied field means; model and dataset have no default and stay empty.
_DEFAULTS = Recipe(model="-", dataset={"path": "-"}).model_dump(mode="json") | {"model": "", "name": ""}  # type: ignore[arg-type]
_DEFAULTS["dataset"]["path"] = ""


class PlanForm(VerticalScroll, can_focus=False):
    """Edits a recipe's data. Posts `Edited` with a recipe that holds, or with what is wrong."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "screen.focus_next", show=False), Binding("up", "screen.focus_previous", show=False),
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
        """A field for each setting."""
        for spec in FIELDS:
            field = Field(spec, _get(self._data, spec.key), self._placeholder(spec))
            field.set_class(spec.more, "more")
            if spec.more and spec is next(s for s in FIELDS if s.more):
                yield Fold()
            yield field

    def on_mount(self) -> None:
        """Hide what does not matter, and stand where a key changes something harmless."""
        self._hide_unused()
        if self.app.size.height >= _ROOM_FOR_ALL:
            self.query_one(Fold).action_unfold()
        self._field("tuning").query_one(Choice).focus()

    def load(self, recipe: Recipe) -> None:
        """Show another recipe."""
        self._recipe = recipe
        self._data = recipe.model_dump(mode="json")
        self.set_values({})

    def set_value(self, key: str, value: Any) -> None:
        """Set one field, as if typed."""
        field = self._field(key)
        field.show(value)
        self._take(field)

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Set several settings at once, those without a field too, and tell of the result once."""
        for key, value in values.items():
            _set(self._data, key, value)
        for field in self.query(Field):
            field.show(_get(self._data, field.spec.key), self._placeholder(field.spec))
        self._hide_unused()
        self._tell()

    @property
    def focused_key(self) -> str | None:
        """The dotted key of the field that has the focus."""
        return next((field.spec.key for field in self.query(Field) if field.has_focus_within), None)

    def show_problems(self, problems: Mapping[str, str]) -> None:
        """Show each problem (dotted field → sentence) at its field."""
        for field in self.query(Field):
            field.show_error(problems.get(field.spec.key))

    def help_of(self, field: Field) -> str:
        """What a field means, from the recipe's own docstrings."""
        model: Any = Recipe
        *parents, name = field.spec.key.split(".")
        for parent in parents:
            model = model.model_fields[parent].annotation
        return str(model.model_fields[name].description or "")

    @on(Field.Changed)
    def _changed(self, event: Field.Changed) -> None:
        event.stop()
        self._take(event.field)

    def _take(self, field: Field) -> None:
        key, value = field.spec.key, field.value
        if value is None:
            value = _get(_DEFAULTS, key)
        if isinstance(value, int) and isinstance(_get(_DEFAULTS, key), float):
            value = float(value)
        if key == "lora.target_modules" and value != "all-linear" and isinstance(value, str):
            value = [value]
        _set(self._data, key, value)
        if key in ("tuning", "objective"):
            self._hide_unused()
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

    def _hide_unused(self) -> None:
        tuning = self._data.get("tuning")
        for field in self.query(Field):
            field.set_class(tuning not in field.spec.tunings, "unused")

    def _placeholder(self, spec: FieldSpec) -> str:
        if spec.key == "training.learning_rate":
            default = default_learning_rate(self._data.get("objective", "sft"), self._data.get("tuning", "lora"))
            return f"{value_to_text(default)} (default)"
        return "enter to choose" if spec.picker else ""


class Fold(Static, can_focus=True):
    """The line that unfolds the rest of a form."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space,right,left", "unfold", "More", show=False)]

    def on_mount(self) -> None:
        """Say which key unfolds."""
        self._label(unfolded=False)

    def action_unfold(self) -> None:
        """Unfold or fold."""
        form = self.query_ancestor(PlanForm)
        form.toggle_class("unfolded")
        self._label(form.has_class("unfolded"))

    def _label(self, unfolded: bool) -> None:
        ascii = getattr(self.app, "ascii_only", False)
        mark = ("v" if ascii else "▾") if unfolded else (">" if ascii else "▸")
        self.update(f"{mark} More settings{'' if unfolded else ' (enter)'}")

    def on_click(self) -> None:
        """The same by mouse."""
        self.action_unfold()


def _get(data: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        data = data[part]
    return data


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        data = data[parent]
    data[last] = value
