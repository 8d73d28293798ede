"""Launching a plan from a screen: what the data check found is asked about first, and the run says what was allowed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from textual import work
from textual.content import Content

from workbench.engine.data.findings import Finding, refused
from workbench.engine.errors import WorkbenchError
from workbench.engine.planning import Plan
from workbench.engine.preflight import PreflightCheck, Surroundings, preflight, problems_of
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_data import DataSettings
from workbench.engine.runs.launcher import launch
from workbench.tui.data_checks import DataCheck
from workbench.tui.preflight_words import checks_content, may_be_passed, unwell
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.screens.rehearsing import RehearsingScreen

_SILENT_SECONDS = 0.7
"""A preflight that takes longer is spoken of."""


class LaunchingScreen(RehearsingScreen):
    """A screen that launches plans; subclasses give `change` and `launch_when_planned`."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting_for_check: Plan | None = None
        self.queues = False
        """Whether what is launched next waits in the queue for its GPU."""
        self._preflighting: Plan | None = None
        self._preflight_agreed = False
        """Whether what a preflight found was agreed to, and only the recipe has to say yes to its data, too."""

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
        if self._preflighting is plan:
            return
        bad = refused(check.findings, plan.recipe.data) if check else ()
        report = check.structure if check else None
        self._preflighting = plan
        self._look_and_launch(plan, base_dir, bad, report.rows if report and not report.exact else None)

    def launch_if_checked(self, base_dir: Path) -> None:
        """Launch what waits for the check of its data, when that is done."""
        plan = self._waiting_for_check
        check = self.data_check(plan.recipe, base_dir) if plan else None
        if plan is not None and (check is None or check.done):
            self.launch_plan(plan, base_dir)

    def still_shows(self, plan: Plan) -> bool:
        """Whether the plan's recipe is still what the screen shows."""
        return True

    def forget_launch(self) -> bool:
        """What waits to be launched is not to be launched; says whether anything waited."""
        waited = self._waiting_for_check is not None or self._preflighting is not None
        self._waiting_for_check = self._preflighting = None
        self._preflight_agreed = False
        return waited

    @work
    async def _look_and_launch(self, plan: Plan, base_dir: Path, bad: Sequence[Finding], rows_read: int | None) -> None:
        """Look at what would go wrong, ask where something would, and launch."""
        agreed, self._preflight_agreed = self._preflight_agreed, False
        # A plan that cannot run is refused by the launch, in one sentence.
        found = [] if plan.problems or agreed else unwell(await self._look(plan, base_dir))
        if self._preflighting is not plan or not self.still_shows(plan):
            return  # it was changed, or not wanted any more
        if bad or found:
            passable = may_be_passed(found)
            detail = [*checks_content(found), *([Content(findings_text(bad, rows_read))] if bad else [])]
            yes = await self.app.push_screen_wait(ConfirmScreen(
                _question(found), Content("\n\n").join(detail), "Launch anyway" if passable else None,
                "Don't launch" if passable else "Back"))
            if not yes or self._preflighting is not plan:
                self._preflighting = None
                return
        self._preflighting = None
        if bad:
            self._preflight_agreed = True
            self.change(allowing(plan.recipe.data, bad))
            self.launch_when_planned()
        else:
            self._launch(plan, base_dir, self.queues)

    async def _look(self, plan: Plan, base_dir: Path) -> Sequence[PreflightCheck]:
        """The preflight; where that takes a while, it is said."""
        looking = asyncio.create_task(asyncio.to_thread(
            preflight, plan, base_dir, Surroundings(queued=self.queues)))
        await asyncio.wait({looking}, timeout=_SILENT_SECONDS)
        if not looking.done():
            self.notify("Looking at disk, memory, model, data and Hub first. esc does not start it.")
        return await looking

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


def _question(found: Sequence[PreflightCheck]) -> str:
    if not may_be_passed(found):
        return "It cannot start like this"
    if problems_of(found):
        return "Launch though it may fail?"
    return "Launch all the same?" if found else "Launch with what is in the data?"


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
