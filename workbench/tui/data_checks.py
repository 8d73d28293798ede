"""The check of a recipe's data: structure first, then tokens, in the background; every screen reads how it stands."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from textual.timer import Timer
from textual.worker import Worker, get_current_worker

from workbench.engine.catalog.models import resolve_model
from workbench.engine.data.check import CheckCancelled, StructureReport, check_structure
from workbench.engine.data.findings import Finding
from workbench.engine.errors import InputError, WorkbenchError
from workbench.engine.inspection import InspectionCancelled, Inspector
from workbench.engine.recipe import Recipe

if TYPE_CHECKING:
    from textual.app import App

STRUCTURE_DELAY = 0.4
"""Seconds without a change before the rows are read."""
TOKENS_DELAY = 1.2
"""Seconds more before a worker is asked for their tokens: it loads libraries for seconds."""
LIMIT_BYTES = 64 << 20
"""How much of a file is read where nobody asked for all of it."""
_KEPT = 8
_PROGRESS_EVERY = 0.25  # seconds
_BREATH = 0.0005
"""Seconds that reading rests after some hundred rows: the screen's thread gets its turn."""
_CHECKING = "checking the data"

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")

OF_TOKENS = frozenset({"truncated", "fully-masked", "eos-not-trained", "double-bos"})


@dataclass(frozen=True, slots=True)
class DataCheck:
    """How the check of one recipe's data stands. `doing` says what is going on, and is empty when all is done."""

    key: str
    doing: str = ""
    share: float | None = None
    """How much of `doing` is done, 0 to 1; None when that is not known."""
    structure: StructureReport | None = None
    document: Mapping[str, Any] | None = None
    """What the worker found, as `workbench data --json` shows it."""
    problem: InputError | None = None
    """Why the data cannot be used as a whole."""
    note: str = ""
    """Why tokens were not looked at."""

    @property
    def done(self) -> bool:
        """Whether nothing more will be found out."""
        return not self.doing

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything found so far."""
        structural = self.structure.findings if self.structure else ()
        found = [Finding(**{**entry, "places": tuple(entry["places"])})
                 for entry in (self.document or {}).get("findings", ())]
        return (*structural, *(finding for finding in found
                               if finding.id in OF_TOKENS or not self.structure))


def check_key(recipe: Recipe, base_dir: Path | None) -> str:
    """Tells apart what may have different findings: recipes, and versions of the files that they name."""
    training = recipe.training
    said = [str(base_dir), file_versions(recipe, base_dir), recipe.model, recipe.objective,
            recipe.dataset.model_dump(mode="json"), recipe.data.chat_template, training.max_length, training.packing,
            training.assistant_only_loss, recipe.effective_batch_size,
            recipe.rlhf.max_completion_length if recipe.objective == "rlhf" else None]
    return orjson.dumps(said).decode()


def file_versions(recipe: Recipe, base_dir: Path | None) -> list[list[int] | None]:
    """When each file that the data comes from was last written, and its size; None for what is no file here."""
    parts = (*recipe.dataset.parts, *recipe.dataset.eval_parts)
    return [_version((base_dir or Path()) / Path(name).expanduser())
            for name in (*(part.path for part in parts), recipe.data.chat_template)]


def _version(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_mtime_ns, stat.st_size]


class DataChecks:
    """Checks one recipe at a time, the one last asked for, and remembers the latest ones.

    `on_change` is called on the application's own thread.
    """

    def __init__(self, app: "App[Any]", inspector: Inspector, on_change: Callable[[], None]) -> None:
        self._app = app
        self.inspector = inspector
        self._on_change = on_change
        self._known: dict[str, DataCheck] = {}
        self._timer: Timer | None = None
        self._worker: Worker[None] | None = None
        self._current = ""

    def of(self, recipe: Recipe, base_dir: Path | None) -> DataCheck | None:
        """How the check of a recipe stands; None when it was never asked for."""
        return self._known.get(check_key(recipe, base_dir))

    def ask(self, recipe: Recipe, base_dir: Path | None) -> None:
        """Check this recipe from now on, and no other. Of large files only the beginning is read: see `read_all`."""
        key = check_key(recipe, base_dir)
        known = self._known.get(key)
        if key == self._current or (known is not None and known.done):
            return
        self.stop()
        self._begin(DataCheck(key, _CHECKING), recipe, base_dir, STRUCTURE_DELAY)

    def read_all(self, recipe: Recipe, base_dir: Path | None) -> None:
        """Read every row of a recipe whose check is done but for the end of its files."""
        known = self.of(recipe, base_dir)
        if known is not None and known.done and known.structure is not None and not known.structure.exact:
            self.stop()
            self._begin(replace(known, doing="reading all rows"), recipe, base_dir, 0.01)

    def close(self) -> None:
        """End the worker; a later check starts another."""
        self.stop()
        self.inspector.close()

    def _begin(self, check: DataCheck, recipe: Recipe, base_dir: Path | None, delay: float) -> None:
        self._current = check.key
        self._take(check)
        self._timer = self._app.set_timer(delay, lambda: self._start(check, recipe, base_dir))

    def stop(self) -> None:
        """Stop checking; what is known stays."""
        if self._timer is not None:
            self._timer.stop()
        if self._worker is not None:
            self._worker.cancel()
        current = self._known.get(self._current)
        if current is not None and not current.done:
            # What was left before tokens were looked at is no check; what was left behind them is a bounded one.
            if current.document is None and not current.note:
                del self._known[self._current]
            else:
                self._known[self._current] = replace(current, doing="", share=None)
            self._on_change()
        self._current = ""

    def _start(self, check: DataCheck, recipe: Recipe, base_dir: Path | None) -> None:
        self._worker = self._app.run_worker(lambda: self._check(check, recipe, base_dir), thread=True,
                                            group="data-check", exclusive=True)

    def _check(self, check: DataCheck, recipe: Recipe, base_dir: Path | None) -> None:
        worker = get_current_worker()
        everything = check.structure is not None

        def show(fresh: DataCheck) -> None:
            if not worker.is_cancelled:
                self._app.call_from_thread(self._take, fresh)

        def cancelled() -> bool:
            return worker.is_cancelled

        shown = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal shown
            time.sleep(_BREATH)
            if time.monotonic() - shown >= _PROGRESS_EVERY:
                shown = time.monotonic()
                show(replace(check, share=done / (total or 1)))

        try:
            report = check_structure(recipe, base_dir, limit_bytes=None if everything else LIMIT_BYTES,
                                     on_progress=progress, cancelled=cancelled)
        except CheckCancelled:
            return
        except InputError as error:
            show(replace(check, doing="", problem=error))
            return
        check = replace(check, structure=report)
        if everything:
            show(replace(check, doing=""))
        elif not tokenizer_is_here(recipe, base_dir):
            note = f"{recipe.model} has no tokenizer on this disk, so tokens were not looked at."
            show(replace(check, doing="", note=note))
        else:
            show(replace(check, doing="loading the tokenizer"))
            if not _waited(TOKENS_DELAY, cancelled):
                self._look_at_tokens(check, recipe, base_dir, show, cancelled)

    def _look_at_tokens(self, check: DataCheck, recipe: Recipe, base_dir: Path | None,
                        show: Callable[[DataCheck], None], cancelled: Callable[[], bool]) -> None:
        try:
            found = self.inspector.inspect(
                recipe, base_dir, lambda words, share: show(replace(check, doing=words, share=share)), cancelled)
        except InspectionCancelled:
            return
        except WorkbenchError as error:
            show(replace(check, doing="", note=f"{error.message} {error.hint or ''}".strip()))
        else:
            show(replace(check, doing="", document=found.document))

    def _take(self, check: DataCheck) -> None:
        self._known.pop(check.key, None)
        self._known[check.key] = check
        while len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        if self._app.is_running:
            self._on_change()


def tokenizer_is_here(recipe: Recipe, base_dir: Path | None) -> bool:
    """Whether the model's tokenizer lies on this disk."""
    try:
        folder = resolve_model(recipe.model, base_dir).path
    except InputError:
        return False
    return folder is not None and any((folder / name).is_file() for name in _TOKENIZER_FILES)


def _waited(seconds: float, cancelled: Callable[[], bool]) -> bool:
    """Wait; True when it was cancelled meanwhile."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if cancelled():
            return True
        time.sleep(0.05)
    return cancelled()
