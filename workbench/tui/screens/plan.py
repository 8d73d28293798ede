"""Plan: pick model, data and method, see what fits, launch."""

from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantFocus
from textual.widgets import Static

from workbench.engine.catalog.models import list_models
from workbench.engine.data.sources import BUILT_IN
from workbench.engine.errors import WorkbenchError
from workbench.engine.figures import count, gib
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.paths import recipes_dir
from workbench.engine.planning import Plan, make_plan
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import load_recipe, save_recipe
from workbench.engine.runs.launcher import launch
from workbench.tui.screens.base import WorkbenchScreen
from workbench.tui.screens.picker import Pick, PickerScreen
from workbench.tui.screens.prompt import PromptScreen
from workbench.tui.widgets.fields import Field
from workbench.tui.widgets.memory_table import MemoryTable
from workbench.tui.widgets.plan_form import PlanForm


class PlanScreen(WorkbenchScreen):
    """The form on the left, what it means on the right, live while typing."""

    MODE = "plan"
    CSS_PATH = "plan.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+l", "launch", "Launch", priority=True),
        Binding("ctrl+s", "save", "Save recipe", priority=True),
        Binding("ctrl+o", "open", "Open recipe", priority=True),
        Binding("ctrl+d", "data", "See data", priority=True),
        Binding("escape", "leave_field", "Leave field", show=False),
    ]

    def __init__(self, recipe: Path | None = None) -> None:
        super().__init__()
        self._path = recipe
        shown = recipe or recipes_dir() / "demo.yaml"
        self._base_dir = shown.resolve().parent if recipe else Path.cwd()
        self._recipe: Recipe | None = load_recipe(shown)
        self._plan: Plan | None = None
        self._launch_wanted = False

    def compose_body(self) -> ComposeResult:
        """Form, memory, facts."""
        assert self._recipe is not None
        with Horizontal():
            form = PlanForm(self._recipe)
            form.border_title = self._path.name if self._path else "Recipe: the demo, yours to change"
            yield form
            with Vertical(id="meaning"):
                with Vertical(classes="panel", id="memory") as memory:
                    memory.border_title = "Predicted GPU memory"
                    yield MemoryTable()
                with Vertical(classes="panel", id="facts") as facts:
                    facts.border_title = "What it does"
                    yield Static(id="facts-text", markup=False)
        yield Static(id="help", classes="muted", markup=False)

    def on_mount(self) -> None:
        """Plan what is shown first."""
        self._replan()

    def on_screen_resume(self) -> None:
        """GPUs may have become free meanwhile."""
        self._replan()

    @on(PlanForm.Edited)
    def _edited(self, event: PlanForm.Edited) -> None:
        self._recipe = event.recipe
        self._launch_wanted = False
        if event.recipe is None:
            self.query_one(PlanForm).show_problems({p.field: p.message for p in reversed(event.problems)})
        else:
            self._replan()

    @work(thread=True, exclusive=True, group="plan")
    def _replan(self) -> None:
        recipe = self._recipe
        if recipe is None:
            return
        plan = make_plan(recipe, self._base_dir, self.workbench.gpus, self.workbench.host or host_snapshot())
        self.app.call_from_thread(self._show, plan)

    def _show(self, plan: Plan) -> None:
        if plan.recipe is not self._recipe:
            return
        self._plan = plan
        self.query_one(MemoryTable).plan = plan
        self.query_one(PlanForm).show_problems({p.field: p.message for p in reversed(plan.problems)})
        self.query_one("#facts-text", Static).update(_facts(plan))
        if self._launch_wanted:
            self._launch_wanted = False
            self._launch(plan)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Say what the focused field means."""
        field = next((node for node in event.widget.ancestors_with_self if isinstance(node, Field)), None)
        text = self.query_one(PlanForm).help_of(field) if field else ""
        self.query_one("#help", Static).update(text)

    @on(Field.PickRequested)
    def _pick(self, event: Field.PickRequested) -> None:
        spec = event.field.spec
        picks = _models() if spec.picker == "model" else _datasets(self._base_dir)

        def take(value: str | None) -> None:
            if value is not None:
                self.query_one(PlanForm).set_value(spec.key, value)

        self.app.push_screen(PickerScreen(f"Choose a {spec.picker}", picks), take)

    def action_leave_field(self) -> None:
        """Let the number keys work again."""
        self.set_focus(None)

    def action_launch(self) -> None:
        """Start the run and watch it; while the plan is still being made, as soon as it is."""
        if self._recipe is None:
            self.notify("Mend the marked field first.", severity="warning")
        elif self._plan is not None and self._plan.recipe is self._recipe:
            self._launch(self._plan)
        else:
            self._launch_wanted = True

    @work(thread=True, exclusive=True, group="launch")
    def _launch(self, plan: Plan) -> None:
        try:
            run = launch(plan.recipe, plan, self._base_dir)
        except WorkbenchError as error:
            text = f"{error.message} {error.hint or ''}".strip()
            self.app.call_from_thread(self.notify, text, severity="error", markup=False)
        else:
            self.app.call_from_thread(self.workbench.watch_run, run)

    def action_save(self) -> None:
        """Write the recipe to a file; comments of the file it came from stay."""
        recipe = self._recipe
        if recipe is None:
            self.notify("Mend the marked field first.", severity="warning")
            return

        def save(name: str | None) -> None:
            if not name:
                return
            path = Path(name).expanduser()
            try:
                save_recipe(path, recipe, self._path)
            except WorkbenchError as error:
                self.notify(error.message, severity="error", markup=False)
            else:
                self._path = path
                self.query_one(PlanForm).border_title = path.name
                self.notify(f"Saved {path}", markup=False)

        default = str(self._path or Path.cwd() / f"{recipe.name}.yaml")
        self.app.push_screen(PromptScreen("Save the recipe as", default), save)

    def action_open(self) -> None:
        """Open another recipe: those that are shipped, and those in the current directory."""
        roots = (recipes_dir(), Path.cwd())
        paths = dict.fromkeys(path for root in roots for path in sorted(root.glob("**/*.yaml"))
                              if root == recipes_dir() or path.parent == root)
        picks = [Pick(str(path.relative_to(recipes_dir())) if recipes_dir() in path.parents else str(path), "")
                 for path in paths]

        def take(value: str | None) -> None:
            if value is not None:
                self._open(recipes_dir() / value)

        self.app.push_screen(PickerScreen("Open a recipe", picks), take)

    def _open(self, path: Path) -> None:
        try:
            recipe = load_recipe(path)
        except WorkbenchError as error:
            self.notify(error.message, severity="error", markup=False)
            return
        self._path = None if recipes_dir() in path.parents else path
        self._base_dir = Path.cwd() if self._path is None else path.resolve().parent
        form = self.query_one(PlanForm)
        form.border_title = path.name
        form.load(recipe)

    def action_data(self) -> None:
        """Look at the dataset."""
        if self._recipe is not None:
            self.workbench.inspect_data(self._recipe.dataset.path, self._base_dir)


def _facts(plan: Plan) -> Content:
    recipe = plan.recipe
    lines: list[Content] = []
    if plan.architecture is not None:
        trained = plan.comparison[recipe.tuning].estimate if plan.comparison else None
        share = trained.trainable_parameters / plan.architecture.parameters if trained else 0
        lines.append(_line("parameters", f"{count(plan.architecture.parameters)}, "
                           f"{count(trained.trainable_parameters if trained else None)} trained ({share * 100:.3g}%)"))
    lines.append(_line("rows", f"{plan.rows:,}" if plan.rows is not None else "known at launch"))
    batch = f"{recipe.effective_batch_size} rows"
    lines.append(_line("steps", f"{plan.steps:,}, each of {batch}" if plan.steps is not None else "known at launch"))
    lines.append(_line("tokens", f"about {count(plan.tokens)}" if plan.tokens is not None else "known at launch"))
    estimate = plan.comparison[recipe.tuning].estimate if plan.comparison else None
    if estimate is not None:
        lines.append(_line("peak", f"{gib(estimate.peak_bytes, 2)}, at the {estimate.peak_moment}"))
    lines += [Content.assemble(("! ", "$warning"), (warning, "$foreground 75%")) for warning in plan.warnings]
    for problem in plan.problems:
        lines.append(Content.assemble(("✗ ", "$error"), f"{problem.message} {problem.hint or ''}"))
    return Content("\n").join(lines)


def _line(label: str, text: str) -> Content:
    return Content.assemble((f"{label:<11}", "$foreground 55%"), text)


def _models() -> list[Pick]:
    words = {"builtin": "built in", "cache": "on this disk", "folder": "on this disk", "catalogue": "from the Hub"}
    return [Pick(model.name, f"{count(model.parameters):>6} {words[model.source]}") for model in list_models()]


def _datasets(base_dir: Path) -> list[Pick]:
    local = [path for path in sorted(base_dir.iterdir()) if path.suffix in (".jsonl", ".json", ".ndjson")]
    return [*(Pick(name, "built in") for name in BUILT_IN if "pairs" not in name),
            *(Pick(path.name, gib(path.stat().st_size)) for path in local)]
