"""Launching a plan from a screen: what the data check found is asked about first, and the run says what was allowed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from textual import work

from workbench.engine.data.findings import Finding, refused
from workbench.engine.errors import WorkbenchError
from workbench.engine.planning import Plan
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_data import DataSettings
from workbench.engine.runs.launcher import launch
from workbench.tui.data_checks import DataCheck
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.screens.rehearsing import RehearsingScreen


class LaunchingScreen(RehearsingScreen):
    """A screen that launches plans; subclasses give `change` and `launch_when_planned`."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting_for_check: Plan | None = None
        self.queues = False
        """Whether what is launched next waits in the queue for its GPU."""

    def change(self, settings: Mapping[str, Any]) -> None:
        """Change the recipe: dotted settings and their values."""
        raise NotImplementedError

    def launch_when_planned(self) -> None:
        """Launch the recipe as it is now, as soon as there is a plan for it."""
        raise NotImplementedError

    def data_check(self, recipe: Recipe, base_dir: Path) -> DataCheck | None:
        """How the check of a recipe's data stands."""
        return self.workbench.checks.of(recipe, base_dir)

    def launch_plan(self, plan: Plan, base_dir: Path) -> None:
        """Launch, when the data is checked and what was found may pass; a second request does not wait for the rest
        of the check."""
        check = self.data_check(plan.recipe, base_dir)
        if check is not None and not check.done and self._waiting_for_check is not plan:
            self._waiting_for_check = plan
            does, key = ("queues", "ctrl+q") if self.queues else ("starts", "ctrl+l")
            self.notify(f"It {does} when the data is checked. {key} again: at once, esc: not at all.")
            return
        self._waiting_for_check = None
        bad = refused(check.findings, plan.recipe.data) if check else ()
        if bad:
            report = check.structure if check else None
            self._ask(plan, bad, report.rows if report and not report.exact else None)
        else:
            self._launch(plan, base_dir, self.queues)

    def launch_if_checked(self, base_dir: Path) -> None:
        """Launch what waits for the check of its data, when that is done."""
        plan = self._waiting_for_check
        check = self.data_check(plan.recipe, base_dir) if plan else None
        if plan is not None and (check is None or check.done):
            self.launch_plan(plan, base_dir)

    def forget_launch(self) -> bool:
        """What waits to be launched is not to be launched; says whether anything waited."""
        waited, self._waiting_for_check = self._waiting_for_check is not None, None
        return waited

    @work
    async def _ask(self, plan: Plan, bad: Sequence[Finding], rows_read: int | None) -> None:
        if await self.app.push_screen_wait(ConfirmScreen(
                "Launch with what is in the data?", findings_text(bad, rows_read), "Launch anyway", "Don't launch")):
            self.change(allowing(plan.recipe.data, bad))
            self.launch_when_planned()

    @work(thread=True, exclusive=True, group="launch")
    def _launch(self, plan: Plan, base_dir: Path, queue: bool) -> None:
        rehearsal = self.rehearsal_of(plan.recipe)
        found = asdict(rehearsal.found) if rehearsal is not None and rehearsal.found is not None else None
        try:
            run = launch(plan.recipe, plan, base_dir, found, queue)
        except WorkbenchError as error:
            text = f"{error.message} {error.hint or ''}".strip()
            self.app.call_from_thread(self.notify, text, severity="error", markup=False)
        else:
            # The run needs the memory more.
            self.workbench.checks.inspector.close()
            self.app.call_from_thread(self.workbench.watch_run, run)


def findings_text(bad: Sequence[Finding], rows_read: int | None = None) -> str:
    """Findings in plain words, a paragraph each, and what a yes means; `rows_read` where not all were."""
    paragraphs = [f"{finding.message} {finding.hint or ''}".strip() for finding in bad]
    if rows_read is not None:
        paragraphs.append(f"Only the first {rows_read:,} rows were read. The run reads all of them before it trains, "
                          "and stops at what is not allowed; Data (ctrl+d) reads them all too.")
    return "\n\n".join([*paragraphs, f"A yes allows these, and the run's recipe says so: {allowed_words(bad)}."])


def allowed_words(bad: Sequence[Finding]) -> str:
    """The settings that let findings pass, in words."""
    rows = [f"data.max_rejected_rows: {finding.count}" for finding in bad if finding.id == "rejected-rows"]
    others = [finding.id for finding in bad if finding.id != "rejected-rows"]
    return " and ".join([*([f"data.allow: [{', '.join(others)}]"] if others else []), *rows])


def allowing(data: DataSettings, bad: Sequence[Finding]) -> dict[str, Any]:
    """The settings, dotted, that let exactly these findings pass besides what may pass already."""
    settings: dict[str, Any] = {}
    allowed = [] if data.allow == "all" else list(data.allow)
    for finding in bad:
        if finding.id == "rejected-rows":
            settings["data.max_rejected_rows"] = finding.count
        elif finding.id not in allowed:
            allowed.append(finding.id)
    if data.allow != "all" and allowed != list(data.allow):
        settings["data.allow"] = allowed
    return settings
