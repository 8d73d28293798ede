"""Plan: pick model, data and method, see what fits, launch."""

from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import DescendantFocus
from textual.widgets import Static
from textual.worker import get_current_worker

from workbench.engine.errors import InputError
from workbench.engine.explain.topics import subject_of
from workbench.engine.hardware.cards import gpu_named
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.planning import Plan, make_plan
from workbench.tui.format import plain_title
from workbench.tui.screens.explain import ExplainScreen
from workbench.tui.screens.picker import PickerScreen
from workbench.tui.screens.plan_picks import THIS_MACHINE, card_picks, field_picks
from workbench.tui.screens.recipe_files import RecipeFileScreen
from workbench.tui.widgets.data_summary import check_note
from workbench.tui.widgets.fields import Field
from workbench.tui.widgets.memory_table import MemoryTable
from workbench.tui.widgets.plan_facts import PlanFacts
from workbench.tui.widgets.plan_form import PlanForm
from workbench.tui.widgets.rehearsal_status import rehearsal_title
from workbench.tui.widgets.suggestion_list import SuggestionList


class PlanScreen(RecipeFileScreen):
    """The form on the left, what it means on the right, live while typing."""

    MODE = "plan"
    CSS_PATH = "plan.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+l", "launch", "Launch", priority=True),
        Binding("ctrl+q", "queue", "Queue", priority=True),
        Binding("ctrl+s", "save", "Save", priority=True),
        Binding("ctrl+o", "open_recipe", "Open", priority=True),
        Binding("ctrl+r", "rehearse", "Rehearse", priority=True),
        Binding("ctrl+g", "pick_card", "GPU to plan for", show=False, priority=True),
        Binding("ctrl+d", "data", "Rows", priority=True),
        Binding("ctrl+t", "apply_suggestion", "Make it fit", show=False, priority=True),
        # A letter goes to the field that is being typed in; the footer then shows f1.
        Binding("e,f1", "explain", "Explain"),
        Binding("pagedown", "scroll_meaning(1)", "More below", show=False, priority=True),
        Binding("pageup", "scroll_meaning(-1)", "More above", show=False, priority=True),
        Binding("escape", "leave_field", "Leave field", show=False),
    ]

    def __init__(self, recipe: Path | None = None) -> None:
        super().__init__(recipe)
        self._plan: Plan | None = None
        self._card: Gpu | None = None
        """A GPU that is not here, to plan for instead of those that are."""
        self._launch_wanted = False

    def compose_body(self) -> ComposeResult:
        """Form, memory, facts."""
        with Horizontal():
            form = PlanForm(self.last_recipe)
            form.border_title = plain_title(self.title_of_recipe)
            yield form
            with VerticalScroll(id="meaning", can_focus=False):
                with Vertical(classes="panel", id="memory"):
                    yield MemoryTable()
                suggestions = SuggestionList()
                suggestions.border_title = "To make it fit: ctrl+t applies"
                yield suggestions
                with Vertical(classes="panel", id="facts") as facts:
                    facts.border_title = "What it does"
                    yield PlanFacts()
        with Horizontal(id="foot"):
            yield Static(id="help", classes="muted", markup=False)
            yield Static("pgdn shows more", id="more", classes="muted", markup=False)

    def on_mount(self) -> None:
        """Plan what is shown first."""
        self.composed = True
        self.watch(self.query_one("#meaning"), "show_vertical_scrollbar", self._hint_at_more)
        self._replan()

    def on_screen_resume(self) -> None:
        """GPUs may have become free meanwhile."""
        self._replan()

    def still_shows(self, plan: Plan) -> bool:
        """By the form itself: what was typed a moment ago is in it, though its message is still on the way."""
        return self.query_one(PlanForm).recipe == plan.recipe

    @on(PlanForm.Edited)
    def _edited(self, event: PlanForm.Edited) -> None:
        if event.recipe != self.recipe:
            self._launch_wanted = False
            self.forget_launch()
        self.take_recipe(event.recipe)
        if self.is_rehearsing:
            self.stop_rehearsal()  # what it would find is of settings that are no more
        if event.recipe is None:
            self.query_one(PlanForm).show_problems({p.field: p.message for p in reversed(event.problems)})
        else:
            self._replan()

    @work(thread=True, exclusive=True, group="plan")
    def _replan(self) -> None:
        recipe = self.recipe
        if recipe is None:
            return
        gpus = [self._card] if self._card is not None else self.workbench.gpus
        plan = make_plan(recipe, self.base_dir, gpus, self.workbench.host or host_snapshot())
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._show, plan)

    def _show(self, plan: Plan) -> None:
        if plan.recipe is not self.recipe or not self.app.is_running:
            return
        self._plan = plan
        self.query_one(MemoryTable).show(plan)
        self.query_one(SuggestionList).show(plan.suggestions)
        self.query_one(PlanFacts).show(plan, self.base_dir)
        self.show_rehearsals()
        self.query_one(PlanForm).show_problems({p.field: p.message for p in reversed(plan.problems)})
        self.refresh_bindings()
        self.workbench.checks.ask(plan.recipe, self.base_dir)
        self.on_data_check()
        if self._launch_wanted:
            self._launch_wanted = False
            self.launch_plan(plan, self.base_dir)

    def on_data_check(self) -> None:
        """Show how the check of the data stands, where the data is named and beside what the plan does."""
        if self.recipe is None or not self.composed or not self.app.is_running:
            return
        check = self.data_check(self.recipe, self.base_dir)
        self.query_one(PlanFacts).show_check(check)
        self.query_one(PlanForm).show_note("dataset.path", check_note(check, self.recipe))
        self.launch_if_checked(self.base_dir)

    def launch_when_planned(self) -> None:
        """Launch the recipe as it is now, as soon as there is a plan for it."""
        self._launch_wanted = True
        self._replan()

    def _hint_at_more(self, more: bool) -> None:
        self.query_one("#more").set_class(more, "-some")

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Say what the focused field means."""
        field = next((node for node in event.widget.ancestors_with_self if isinstance(node, Field)), None)
        text = self.query_one(PlanForm).help_of(field) if field else ""
        self.query_one("#help", Static).update(text)

    @on(Field.PickRequested)
    def _pick(self, event: Field.PickRequested) -> None:
        spec = event.field.spec

        def take(value: str | None) -> None:
            if value is not None:
                self.query_one(PlanForm).set_value(spec.key, value)

        self.app.push_screen(PickerScreen(f"Choose a {spec.picker}", field_picks(spec.picker, self.base_dir)), take)

    def action_pick_card(self) -> None:
        """Plan for a common GPU by name, or for this machine again."""
        def take(value: str | None) -> None:
            if value is not None:
                self._card = None if value == THIS_MACHINE else gpu_named(value)
                self._replan()

        self.app.push_screen(PickerScreen("Plan for a GPU", card_picks()), take)

    def action_leave_field(self) -> None:
        """Stop a rehearsal, or a launch that waits; else let the number keys work again."""
        if self.is_rehearsing:
            self.stop_rehearsal()
        elif self.forget_launch():
            self.notify("It will not be launched.")
        else:
            self.set_focus(None)

    def action_rehearse(self) -> None:
        """Trace the recipe's trainer, with its progress beside the estimate."""
        if self.recipe is None:
            self.notify("Mend the marked field first.", severity="warning")
        elif not self.is_rehearsing:
            self.start_rehearsal(self.recipe, self.base_dir)

    def show_rehearsals(self) -> None:
        """Beside the estimate."""
        status = self.rehearsal_of(self.recipe)
        self.query_one(PlanFacts).show_rehearsal(status)
        self.query_one("#memory", Vertical).border_title = rehearsal_title(status)

    def action_scroll_meaning(self, by: int) -> None:
        """Show what does not fit below or above on the right, whatever has the focus."""
        meaning = self.query_one("#meaning", VerticalScroll)
        (meaning.scroll_page_down if by > 0 else meaning.scroll_page_up)(animate=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Making it fit is offered only where there is something to offer."""
        return action != "apply_suggestion" or bool(self._plan and self._plan.suggestions)

    def action_apply_suggestion(self) -> None:
        """Change the form as the marked suggestion says."""
        marked = self.query_one(SuggestionList).marked
        if marked is not None:
            self._apply(SuggestionList.Chosen(marked))

    @on(SuggestionList.Chosen)
    def _apply(self, event: SuggestionList.Chosen) -> None:
        self.query_one(PlanForm).set_values(dict(event.suggestion.changes))
        self.notify(f"Applied: {event.suggestion.words}", markup=False)

    def action_explain(self) -> None:
        """The arithmetic of the objective when that has the focus, else of the tuning, on this model."""
        recipe = self.recipe
        if recipe is None:
            self.notify("Mend the marked field first.", severity="warning")
            return
        topic = recipe.objective if self.query_one(PlanForm).focused_key == "objective" else recipe.tuning
        try:
            subject = subject_of(recipe, self.base_dir)
        except InputError as error:
            self.notify(f"{error.message} {error.hint or ''}".strip(), severity="warning", markup=False)
        else:
            self.app.push_screen(ExplainScreen(topic, subject))

    def action_launch(self) -> None:
        """Start the run and watch it; while the plan is still being made, as soon as it is."""
        self.queues = False
        self._launch_soon()

    def action_queue(self) -> None:
        """As launching, but the run waits for a GPU of its own behind those that wait already."""
        self.queues = True
        self._launch_soon()

    def _launch_soon(self) -> None:
        if self.recipe is None:
            self.notify("Mend the marked field first.", severity="warning")
        elif self._card is not None:
            # The run takes place here, and keeps the plan for what is here.
            self._card = None
            self.launch_when_planned()
        elif self._plan is not None and self._plan.recipe is self.recipe:
            self.launch_plan(self._plan, self.base_dir)
        else:
            self._launch_wanted = True

    def action_data(self) -> None:
        """Look at the dataset."""
        self.workbench.action_go("data")
