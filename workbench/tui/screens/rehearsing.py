"""Rehearsing a recipe from a screen: started, shown, cancelled; what was found stays with its recipe."""

import threading
from pathlib import Path

from textual import work
from textual.worker import get_current_worker

from workbench.engine.errors import WorkbenchError
from workbench.engine.recipe import Recipe
from workbench.engine.rehearsal import RehearsalCancelled, rehearse
from workbench.tui.screens.base import WorkbenchScreen
from workbench.tui.widgets.rehearsal_status import RehearsalStatus


class RehearsingScreen(WorkbenchScreen):
    """A screen that can rehearse; subclasses give `show_rehearsals`."""

    def __init__(self) -> None:
        super().__init__()
        self._rehearsals: dict[Recipe, RehearsalStatus] = {}
        self._stop_rehearsal = threading.Event()

    def show_rehearsals(self) -> None:
        """How a rehearsal stands has changed: see `rehearsal_of`."""
        raise NotImplementedError

    def rehearsal_of(self, recipe: Recipe | None) -> RehearsalStatus | None:
        """How the rehearsal of a recipe stands; None where there was none."""
        return self._rehearsals.get(recipe) if recipe is not None else None

    @property
    def is_rehearsing(self) -> bool:
        """Whether one is running that was not told to stop."""
        running = any(status.share is not None for status in self._rehearsals.values())
        return running and not self._stop_rehearsal.is_set()

    def start_rehearsal(self, recipe: Recipe, base_dir: Path) -> None:
        """Rehearse a recipe; one that is running stops."""
        self.stop_rehearsal()
        self._stop_rehearsal = threading.Event()
        self._take(RehearsalStatus(recipe, share=0.0, words="starting"))
        self._rehearse(recipe, base_dir, self._stop_rehearsal)

    def stop_rehearsal(self) -> None:
        """Tell the running rehearsal to stop."""
        self._stop_rehearsal.set()
        self._rehearsals = {recipe: status for recipe, status in self._rehearsals.items() if status.share is None}
        self.show_rehearsals()

    @work(thread=True, group="rehearsal")
    def _rehearse(self, recipe: Recipe, base_dir: Path, stop: threading.Event) -> None:
        worker = get_current_worker()

        def show(status: RehearsalStatus) -> None:
            if not (stop.is_set() or worker.is_cancelled):
                self.app.call_from_thread(self._take, status)

        try:
            found = rehearse(recipe, base_dir, lambda words, share: show(RehearsalStatus(recipe, share, words)),
                             lambda: stop.is_set() or worker.is_cancelled)
        except RehearsalCancelled:
            return
        except WorkbenchError as error:
            show(RehearsalStatus(recipe, problem=f"{error.message} {error.hint or ''}".strip()))
        else:
            show(RehearsalStatus(recipe, found=found))

    def _take(self, status: RehearsalStatus) -> None:
        self._rehearsals[status.recipe] = status
        self.show_rehearsals()
