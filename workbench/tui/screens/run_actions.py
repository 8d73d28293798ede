"""What can be done to runs from a screen: pause, resume, stop, delete. What cannot be undone asks first."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual import work
from textual.content import Content

from workbench.engine.errors import RunError, WorkbenchError
from workbench.engine.figures import gib
from workbench.engine.planning import Plan
from workbench.engine.preflight import PreflightCheck, Surroundings, preflight
from workbench.engine.recipe import Recipe
from workbench.engine.runs.control import Command, CommandName, send_command
from workbench.engine.runs.deletion import delete_run, size_on_disk
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.escalation import stop_deadline
from workbench.engine.runs.orders import Answer, pause_run, stop_run
from workbench.engine.runs.resume import Resumption, prepare_resume, waited_in_queue
from workbench.engine.runs.state import AT_REST, ENDED, StateName
from workbench.tui.preflight_words import checks_content, may_be_passed, unwell
from workbench.tui.run_postmortem import changes_to
from workbench.tui.screens.base import WorkbenchScreen
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.widgets.postmortem import diff_lines


@dataclass(frozen=True)
class Subject:
    """A run that something is done to, and how it stands."""

    run: RunDirectory
    state: StateName
    step: int = 0
    worker_lives: bool = False
    """Of a crashed run: whether its worker still trains."""

    @property
    def may_stop(self) -> bool:
        """Whether there is something to stop; a paused run is stopped for good."""
        return self.state not in ENDED or self.worker_lives

    @property
    def may_pause(self) -> bool:
        """Whether there is somebody to pause it."""
        return self.state in ("queued", "waiting", "running")

    @property
    def may_resume(self) -> bool:
        """Whether it can go on."""
        return self.state in AT_REST - {"finished"}

    @property
    def may_delete(self) -> bool:
        """Whether nothing of it runs."""
        return self.state in AT_REST and not self.worker_lives


class RunActions(WorkbenchScreen):
    """A screen from which runs are paused, resumed, stopped and deleted."""

    def pause_runs(self, subjects: Sequence[Subject]) -> None:
        """Pause those that can be, and say what happens."""
        for subject in subjects:
            if subject.may_pause:
                self._order(subject.run, "pause", pause_run)

    @work
    async def stop_runs(self, subjects: Sequence[Subject]) -> None:
        """Ask, then stop those that still run."""
        wanted = [subject for subject in subjects if subject.may_stop]
        if not wanted:
            return
        it, detail = _it(wanted), await asyncio.to_thread(stop_words, wanted)
        no = f"Leave {it}" if all(subject.state in ("waiting", "paused") for subject in wanted) else f"Let {it} run"
        if await self._agrees(f"Stop {names(wanted)}?", detail, f"Stop {it}", no):
            for subject in wanted:
                self._order(subject.run, "stop", stop_run)

    @work(thread=True, group="orders")
    def _order(self, run: RunDirectory, name: CommandName, give: Callable[[RunDirectory], Answer]) -> None:
        # A run without a supervisor is given one first: that takes a moment.
        try:
            answer = give(run)
        except (WorkbenchError, OSError) as error:
            self.app.call_from_thread(self.complain, error, run)
        else:
            self.app.call_from_thread(self.ordered, run, name, answer)

    def ordered(self, run: RunDirectory, name: CommandName, answer: Answer) -> None:
        """Say what comes of an order that was given."""
        self.notify(" ".join(answer.words).replace(run.id, run.name), markup=False)

    @work
    async def delete_runs(self, subjects: Sequence[Subject]) -> None:
        """Ask, then delete those of which nothing runs."""
        for subject in subjects:
            if not subject.may_delete:
                self.notify("Stop it first, with s.", title=f"{subject.run.name} has not ended.", severity="error",
                            markup=False)
        doomed = [subject.run for subject in subjects if subject.may_delete]
        if not doomed:
            return
        size = gib(sum(await asyncio.to_thread(lambda: [size_on_disk(run) for run in doomed])))
        it, its = ("it", "Its") if len(doomed) == 1 else ("them", "Their")
        detail = "\n".join(run.id for run in doomed) + (
            f"\n\n{its} checkpoints, model, samples and log ({size}) are gone for good.")
        name = doomed[0].name if len(doomed) == 1 else f"{len(doomed)} runs"
        if await self._agrees(f"Delete {name}?", detail, f"Delete {it}", f"Keep {it}"):
            self._delete(doomed)

    @work(thread=True, group="delete")
    def _delete(self, runs: Sequence[RunDirectory]) -> None:
        for run in runs:
            try:
                delete_run(run)
            except (RunError, OSError) as error:
                self.app.call_from_thread(self.complain, error, run)
            else:
                self.app.call_from_thread(self.notify, f"{run.name} was deleted.", markup=False)

    @work
    async def resume_runs(self, subjects: Sequence[Subject], apply: bool = False) -> None:
        """Go on with runs, with `apply` changed as their failure suggests; of a pipeline at the stage that did not
        finish. A single one is watched then."""
        for subject in subjects:
            started = await self._resume(subject, apply)
            if started and len(subjects) == 1:
                self.workbench.watch_run(started[0])
            elif started:
                self.notify(f"{started[0].name} goes on.", markup=False)

    async def _resume(self, subject: Subject, apply: bool) -> list[RunDirectory]:
        """The runs that go on; none where it was not wanted, or cannot be."""
        try:
            resumption, found = await asyncio.to_thread(self._prepare, subject.run, apply)
            detail = await asyncio.to_thread(question_of, resumption, subject.step, found)
            yes = "Resume it" if may_be_passed(found) else None
            if detail is not None and not await self._agrees(f"Resume {resumption.run.name}?", detail, yes, "Leave it"):
                return []
            return await asyncio.to_thread(resumption.start)
        except (WorkbenchError, OSError) as error:
            self.complain(error, subject.run)
            return []

    def _prepare(self, run: RunDirectory, apply: bool) -> tuple[Resumption, list[PreflightCheck]]:
        """How a run goes on, and what of the machine speaks against it. Blocks."""
        found: list[PreflightCheck] = []

        def plan(recipe: Recipe) -> Plan:
            made = self.workbench.plan_for(recipe, run.path)
            around = Surroundings(own_bytes=size_on_disk(run), queued=waited_in_queue(run))
            found.extend(() if made.problems else unwell(preflight(made, run.path, around)))
            return made

        return prepare_resume(run, plan, apply=apply), found

    async def _agrees(self, question: str, detail: str | Content, yes: str | None, no: str) -> bool:
        return await self.app.push_screen_wait(ConfirmScreen(question, detail, yes, no))

    def send(self, run: RunDirectory, name: CommandName) -> Command | None:
        """Send a command; None, and a complaint, when nobody is there to obey."""
        try:
            return send_command(run, name)
        except RunError as error:
            self.complain(error, run)
            return None

    def complain(self, error: WorkbenchError | OSError, run: RunDirectory) -> None:
        """Say what could not be done."""
        if isinstance(error, WorkbenchError):
            title, hint = error.message, error.hint or ""
        else:
            title, hint = f"{run.name}: {error.strerror}.", str(error.filename or "")
        self.notify(hint, title=title, severity="error", markup=False)


def names(subjects: Sequence[Subject]) -> str:
    """One run by its name, several by their number."""
    return subjects[0].run.name if len(subjects) == 1 else f"{len(subjects)} runs"


def _it(subjects: Sequence[Subject]) -> str:
    return "it" if len(subjects) == 1 else "them"


def stop_words(subjects: Sequence[Subject]) -> str:
    """What stopping means, and when it is over at the latest. Blocks."""
    if all(subject.state == "paused" for subject in subjects):
        return "It is paused: nothing of it runs. It counts as stopped then, and r can still go on with it."
    hows = dict.fromkeys("it does not start any more" if subject.state == "waiting" else stop_deadline(subject.run)[0]
                         for subject in subjects if subject.state != "paused")
    saved = ["What was saved so far stays."] if any(subject.step for subject in subjects) else []
    return "\n\n".join([*(f"{how[0].upper()}{how[1:]}." for how in hows), *saved])


def question_of(resumption: Resumption, step: int, found: Sequence[PreflightCheck] = ()) -> Content | None:
    """What is to be agreed to before a run goes on; None where nothing is. Blocks. `step`: the last that it made;
    `found`: what of the machine speaks against it.

    Asked is where its recipe changes, where a checkpoint cannot be used, and where it begins anew.
    """
    request = resumption.request
    if request is None or not (found or request.changes or request.notes or (step and request.checkpoint is None)):
        return None
    parts = [part for paragraph in checks_content(found) for part in (paragraph, Content(""))]
    parts += [Content(note) for note in request.notes]
    if request.changes:
        parts += [Content.styled("Its recipe changes:", "bold"),
                  *diff_lines(changes_to(resumption.run, request.changes)), Content("")]
    again = f" The {step - request.step} steps after that are made again." if step > request.step else ""
    if request.checkpoint is None:
        anew = f", and the {step} steps it made are made again" if step else ""
        parts.append(Content(f"It has no good checkpoint: it begins anew{anew}."))
    else:
        parts.append(Content(f"It goes on from its checkpoint of step {request.step}, which was verified.{again}"))
    return Content("\n").join(parts)
