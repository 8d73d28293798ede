"""Data: what a dataset is, what is wrong with it, and its rows as the model will see them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import Static
from textual.worker import get_current_worker

from workbench.engine.data.examples import Located
from workbench.engine.data.findings import refused
from workbench.engine.errors import InputError, WorkbenchError
from workbench.engine.inspection import InspectionCancelled
from workbench.engine.recipe import Recipe
from workbench.tui.data_checks import DataCheck, check_key, file_versions, tokenizer_is_here
from workbench.tui.screens.browsing import BrowsingScreen
from workbench.tui.screens.column_mapping import ColumnMappingScreen, mapping_offer
from workbench.tui.screens.picker import PickerScreen
from workbench.tui.screens.plan_picks import template_picks
from workbench.tui.screens.prompt import PromptScreen
from workbench.tui.widgets.data_facts import DataFacts
from workbench.tui.widgets.data_summary import next_place, summary_content
from workbench.tui.widgets.findings_list import FindingsList
from workbench.tui.widgets.length_histogram import LengthHistogram
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.row_view import Rendered, RowView, packed_sequences, previewed_rows, rendered_rows

_RENDER_DELAY = 0.15
"""Seconds that the cursor rests on a row before a worker is asked for it."""
_AT_ONCE = 8
"""Rows that a worker is asked for together: the next ones are likely to be looked at too."""
_MOST_KEPT = 2000


class DataScreen(BrowsingScreen):
    """The dataset of the recipe in Plan: its rows, one of them in full, and what the check found."""

    MODE = "data"
    CSS_PATH = "data.tcss"
    AUTO_FOCUS = "RowList"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "pane", "Findings"),
        Binding("n", "next_problem", "Next problem"),
        Binding("g,slash", "go_to", "Line", key_display="g"),
        Binding("m", "map", "Columns"),
        Binding("t", "template", "Template"),
        Binding("p", "packed", "Packed", show=False),
        Binding("escape", "stop", "Stop reading", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._recipe: Recipe | None = None
        self._base_dir: Path | None = None
        self._rows_key = self._render_key = ""
        self._rendered: dict[int, list[Rendered]] = {}
        self._render_note = ""
        self._render_timer: Timer | None = None
        self._left: set[str] = set()
        """Checks that were left before all rows were read: they are not begun again."""
        self._packed = False
        self._composed = False

    def compose_body(self) -> ComposeResult:
        """Summary; rows and findings; one row, lengths and figures."""
        yield Static(id="summary", markup=False)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                with Vertical(classes="panel", id="rows") as rows:
                    rows.border_title = "Rows"
                    yield RowList()
                yield FindingsList()
            with Vertical(id="right"):
                yield RowView()
                with VerticalScroll(classes="panel", id="figures", can_focus=False) as figures:
                    figures.border_title = "Lengths in tokens"
                    yield LengthHistogram()
                    yield DataFacts()

    def on_mount(self) -> None:
        """Begin with the rows."""
        self._composed = True
        self.add_class("-row")
        self._take_up()

    def on_screen_resume(self) -> None:
        """Take up the recipe as Plan has it now."""
        if self._composed:
            self._take_up()

    def _take_up(self) -> None:
        recipe, base_dir = self.workbench.planned
        self._recipe, self._base_dir = recipe, base_dir
        rows_key = f"{base_dir} {recipe.objective} {recipe.dataset!r} {file_versions(recipe, base_dir)}"
        render_key = check_key(recipe, base_dir)
        if render_key != self._render_key:
            self._render_key, self._render_note = render_key, ""
            self._rendered.clear()
        if rows_key != self._rows_key:
            self._rows_key, self._packed = rows_key, False
            self.open_rows(recipe, base_dir)
        else:
            self.show_row()
        self.workbench.checks.ask(recipe, base_dir)
        self.on_data_check()

    @property
    def _check(self) -> DataCheck | None:
        return self.workbench.checks.of(self._recipe, self._base_dir) if self._recipe else None

    def on_data_check(self) -> None:
        """How the check stands has changed."""
        recipe, check = self._recipe, self._check
        if recipe is None or not self._composed or not self.app.is_running:
            return
        self.show_reading()
        if check is not None and check.done and self._render_key not in self._left:
            self.workbench.checks.read_all(recipe, self._base_dir)
        findings = check.findings if check else ()
        self.query_one(FindingsList).show(findings, refused(findings, recipe.data))
        document: Any = (check.document if check else None) or {}
        self.query_one(LengthHistogram).show(document.get("histogram") or (), recipe.training.max_length)
        self.query_one(DataFacts).show(document, check)
        self.set_class(bool(document or (check and (check.note or check.doing))), "-figures")
        if self._packed or self.row is None:
            self.show_row()

    def show_reading(self) -> None:
        """What is known and what is going on, above everything."""
        if self._recipe is not None:
            self.query_one("#summary", Static).update(
                summary_content(self._recipe, self.reader, self._check, self.problem, self.reading))

    # One row

    def show_row(self) -> None:
        """The row under the cursor: rendered when it has been, else as its file has it."""
        view, row = self.query_one(RowView), self.row
        if self._packed and (sequences := packed_sequences(self._check)):
            view.show_packed(sequences)
        elif row is None and (previews := previewed_rows(self._check)):
            view.show_previews(previews)
        elif row is None:
            view.show_nothing(self._words_for_no_row(), self.raw_row if self.problem else None)
        elif not isinstance(row, Located):
            view.show_plain(row)
        elif self.row_number in self._rendered:
            view.show_rendered(row, self._rendered[self.row_number])
        else:
            view.show_plain(row, self._render_note or "loading the tokenizer…")
            self._want_rendering()

    def _words_for_no_row(self) -> str:
        if self.problem is None:
            return "Reading the first rows…" if self.reading else "There are no rows."
        return (f"{self.problem.message}\n\n{self.problem.hint or ''}\n\nPress m to say which column is which, or 1 "
                "to choose another dataset or objective.")

    def _want_rendering(self) -> None:
        if self._render_timer is not None:
            self._render_timer.stop()
        if not self._render_note:
            self._render_timer = self.set_timer(_RENDER_DELAY, self._ask_for_rendering)

    def _ask_for_rendering(self) -> None:
        recipe = self._recipe
        wanted = [(number, row) for number, row in self.rows_from(self.row_number, _AT_ONCE)
                  if isinstance(row, Located) and number not in self._rendered]
        if recipe is None or not wanted:
            return
        if not tokenizer_is_here(recipe, self._base_dir):
            self._take_note(self._render_key, f"{recipe.model} has no tokenizer on this disk: the row as it stands.")
        else:
            self._ask_worker(recipe, self._base_dir, self._render_key, wanted)

    @work(thread=True, exclusive=True, group="render")
    def _ask_worker(self, recipe: Recipe, base_dir: Path | None, key: str, rows: Sequence[tuple[int, Located]]) -> None:
        worker = get_current_worker()
        try:
            found = self.workbench.checks.inspector.render(
                recipe, base_dir, [row.example for _, row in rows], lambda: worker.is_cancelled)
        except InspectionCancelled:
            return
        except WorkbenchError as error:
            words = f"{error.message} {error.hint or ''}".strip()
            self.app.call_from_thread(self._take_note, key, words)
        else:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._take_rendered, key, [number for number, _ in rows],
                                          rendered_rows(found, len(rows)))

    def _take_rendered(self, key: str, numbers: list[int], rendered: list[list[Rendered]]) -> None:
        if key == self._render_key:
            if len(self._rendered) > _MOST_KEPT:
                self._rendered.clear()
            self._rendered.update(zip(numbers, rendered, strict=True))
            self.show_row()

    def _take_note(self, key: str, note: str) -> None:
        if key == self._render_key:
            self._render_note = note
            self.show_row()

    # Keys

    def action_pane(self) -> None:
        """Where rows and findings share their place, show the other; elsewhere move the focus."""
        findings = self.query_one(FindingsList)
        if not (self.has_class("-wide") and self.has_class("-tall")):
            self.toggle_class("-row")
        to_findings = self.focused is not findings if self.has_class("-wide") else not self.has_class("-row")
        (findings if to_findings and findings.display else self.query_one(RowList)).focus()

    def action_stop(self) -> None:
        """Leave what is being read."""
        if not self.stop_reading():
            self._left.add(self._render_key)
            self.workbench.checks.stop()

    def action_go_to(self) -> None:
        """Ask for a line."""
        def take(text: str | None) -> None:
            if text and text.isdecimal():
                self.find_line(self.row.source if self.row else None, int(text))
            elif text:
                self.notify("A line is a number.", severity="warning")

        self.app.push_screen(PromptScreen("Go to line"), take)

    @on(FindingsList.Chosen)
    def _chosen(self, event: FindingsList.Chosen) -> None:
        self._go_to_place(event.place)

    def _go_to_place(self, place: str) -> None:
        source, _, line = place.rpartition(":")
        self.add_class("-row")
        self.query_one(RowList).focus()
        self.find_line(source, int(line))

    def action_next_problem(self) -> None:
        """Go to the next row that something is wrong with; behind the last one, to the first."""
        place = next_place(self._check, self.row)
        if place is None:
            self.notify("No row with a problem is known.")
        else:
            self._go_to_place(place)

    def action_packed(self) -> None:
        """Show packed sequences instead of single rows, or rows again."""
        if packed_sequences(self._check):
            self._packed = not self._packed
            self.show_row()
        else:
            self.notify("Rows are joined only with training.packing, for sft and cpt.")

    def action_template(self) -> None:
        """Choose the chat template that conversations are written with."""
        def take(value: str | None) -> None:
            if value is not None:
                self.workbench.change_plan({"data.chat_template": value})
                self._take_up()

        self.app.push_screen(PickerScreen("Chat template", template_picks(self._base_dir)), take)

    @work
    async def action_map(self) -> None:
        """Say which column is what."""
        if self._recipe is None:
            return
        try:
            offer = mapping_offer(self._recipe, self._base_dir, self.row.source if self.row else None)
        except InputError as error:
            self.notify(f"{error.message} {error.hint or ''}".strip(), severity="warning", markup=False)
            return
        changes = await self.app.push_screen_wait(ColumnMappingScreen(offer))
        if changes is not None:
            self.workbench.change_plan(changes)
            self._take_up()
