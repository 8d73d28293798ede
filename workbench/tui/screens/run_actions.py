"""What can be done to runs from a screen: pause, resume, stop, delete. What cannot be undone asks first."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textual import work
from textual.content import Content

from workbench.engine.errors import RunError
from workbench.engine.runs.control import Command, CommandName, send_command
from workbench.engine.runs.deletion import delete_run
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.escalation import STOP_TO_TERM_SECONDS, TERM_TO_KILL_SECONDS
from workbench.engine.runs.state import AT_REST, StateName
from workbench.tui.run_postmortem import GoodCheckpoint, PostMortem
from workbench.tui.screens.base import WorkbenchScreen
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.widgets.postmortem import checkpoint_words, diff_lines


@dataclass(frozen=True)
class Subject:
    """A run that something is done to, and how it stands."""

    run: RunDirectory
    state: StateName
    worker_lives: bool = False
    """Of a crashed run: whether its worker still trains."""

    @property
    def may_stop(self) -> bool:
        """Whether there is something to stop."""
        return self.state not in AT_REST or self.worker_lives

    @property
    def may_pause(self) -> bool:
        """Whether there is somebody to pause it."""
        return self.state == "running"

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
            if subject.may_pause and self.send(subject.run, "pause") is not None:
                self.notify("It ends its step, saves a checkpoint and frees the GPU. r goes on where it was.",
                            title=f"{subject.run.name} pauses.", markup=False)

    @work
    async def stop_runs(self, subjects: Sequence[Subject]) -> None:
        """Ask, then stop those that still run."""
        wanted = [subject for subject in subjects if subject.may_stop]
        it = _it(wanted)
        if wanted and await self._agrees(f"Stop {names(wanted)}?", stop_words(wanted), f"Stop {it}", f"Let {it} run"):
            for subject in wanted:
                self.stop_run(subject)

    def stop_run(self, subject: Subject) -> None:
        """Stop one run, that was agreed to."""
        self.send(subject.run, "stop")

    @work
    async def delete_runs(self, subjects: Sequence[Subject]) -> None:
        """Ask, then delete those of which nothing runs."""
        for subject in subjects:
            if not subject.may_delete:
                self.notify("Stop it first, with s.", title=f"{subject.run.name} has not ended.", severity="error",
                            markup=False)
        doomed = [subject for subject in subjects if subject.may_delete]
        it, listed = _it(doomed), "\n".join(subject.run.id for subject in doomed)
        lost = f"{'Its' if len(doomed) == 1 else 'Their'} checkpoints, model, samples and log are gone for good."
        if doomed and await self._agrees(f"Delete {names(doomed)}?", f"{listed}\n\n{lost}", f"Delete {it}",
                                         f"Keep {it}"):
            self._delete([subject.run for subject in doomed])

    @work(thread=True, group="delete")
    def _delete(self, runs: Sequence[RunDirectory]) -> None:
        for run in runs:
            try:
                delete_run(run)
            except RunError as error:
                self.app.call_from_thread(self.complain, error)
            else:
                self.app.call_from_thread(self.notify, f"{run.name} was deleted.", markup=False)

    @work
    async def resume_after_asking(self, subject: Subject, postmortem: PostMortem | None, step: int,
                                  apply: bool = False) -> None:
        """Go on with a run; asks where its recipe changes, and where steps that were made are made again."""
        changes = {change.setting: change.new for change in postmortem.changes} if postmortem and apply else {}
        if postmortem is not None and not postmortem.worker_lives and (changes or (step and not postmortem.checkpoint)):
            agreed = await self._agrees(f"Resume {subject.run.name}?", resume_words(postmortem, step, bool(changes)),
                                        "Resume it", "Leave it")
            if not agreed:
                return
        self.workbench.resume_run(subject.run, changes)

    async def _agrees(self, question: str, detail: str | Content, yes: str, no: str) -> bool:
        return await self.app.push_screen_wait(ConfirmScreen(question, detail, yes, no))

    def send(self, run: RunDirectory, name: CommandName) -> Command | None:
        """Send a command; None, and a complaint, when nobody is there to obey."""
        try:
            return send_command(run, name)
        except RunError as error:
            self.complain(error)
            return None

    def complain(self, error: RunError) -> None:
        """Say what could not be done."""
        self.notify(error.hint or "", title=error.message, severity="error", markup=False)


def names(subjects: Sequence[Subject]) -> str:
    """One run by its name, several by their number."""
    return subjects[0].run.name if len(subjects) == 1 else f"{len(subjects)} runs"


def _it(subjects: Sequence[Subject]) -> str:
    return "it" if len(subjects) == 1 else "them"


def stop_words(subjects: Sequence[Subject]) -> str:
    """What stopping means, and when it is over at the latest."""
    if any(subject.state in ("stalled", "crashed") for subject in subjects):
        return (f"A run that gives no sign of life is told to end at once (SIGTERM), and is killed after "
                f"{TERM_TO_KILL_SECONDS:.0f} seconds (SIGKILL). Its last checkpoint stays.")
    return ("It ends after its present step, and what it has learned so far is saved. If nothing moves for "
            f"{STOP_TO_TERM_SECONDS:.0f} seconds it is told to end at once (SIGTERM), and is killed "
            f"{TERM_TO_KILL_SECONDS:.0f} seconds later (SIGKILL).")


def resume_words(postmortem: PostMortem, step: int, changed: bool) -> Content:
    """What resuming means: the change of the recipe, and the step it goes on from."""
    parts = [Content.styled("Its recipe changes:", "bold"), *diff_lines(postmortem.changes), Content("")] \
        if changed else []
    return Content("\n").join([*parts, _goes_on(postmortem.checkpoint, step)])


def _goes_on(checkpoint: GoodCheckpoint | None, step: int) -> Content:
    if checkpoint is None:
        return Content(f"It has no checkpoint: it begins anew, and the {step} steps it made are made again."
                       if step else "It begins anew: it made no steps yet.")
    again = f"; the {step - checkpoint.step} steps after that are made again" if step > checkpoint.step else ""
    return Content(f"It goes on from its checkpoint ({checkpoint_words(checkpoint)}){again}.")


def overrides_of(changes: Mapping[str, Any]) -> list[str]:
    """Settings as `--set` takes them."""
    return [f"{setting}={json.dumps(value)}" for setting, value in changes.items()]
