"""What the post-mortem of a run says: gathered from its journal, its recipe and its checkpoints. Everything here
blocks: it belongs in a thread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.engine.errors import WorkbenchError
from workbench.engine.recipe_diff import SettingChange, applied
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.document import last_good_checkpoint
from workbench.engine.runs.manifest import MANIFEST
from workbench.engine.runs.state import Attempt, RunState
from workbench.engine.runs.store import RunFollower

UNHAPPY = frozenset({"failed", "crashed"})
"""States that a run is told to have come to by a post-mortem."""
_LAST_LOG_LINES = 4
_CAUSES = {"oom": "out of memory", "nan": "the loss is NaN", "disk": "the disk is full", "killed": "killed",
           "hub": "Hugging Face Hub", "data": "its data", "error": "an error", "hang": "it hung"}


@dataclass(frozen=True)
class GoodCheckpoint:
    """The checkpoint that a resumed run goes on from; `written` in seconds since the epoch."""

    step: int
    written: float


@dataclass(frozen=True)
class PostMortem:
    """Why a run ended and how it can go on."""

    title: str
    explanation: str
    suggestion: str | None
    evidence: tuple[str, ...]
    only_log: bool
    """Whether `evidence` is but the end of the log: nobody was there to pick what shows it."""
    checkpoint: GoodCheckpoint | None
    attempts: tuple[Attempt, ...]
    changes: tuple[SettingChange, ...]
    worker_lives: bool
    """Whether it still trains, though its supervisor is gone."""


def postmortem_of(follower: RunFollower, log: Sequence[str], worker_lives: bool) -> PostMortem | None:
    """Of a failed or crashed run; None for others. `log` is the end of the worker's log."""
    if follower.name not in UNHAPPY:
        return None
    state = follower.state
    title, explanation, suggestion = f"failed: {cause_words(state.cause)}", state.explanation, state.suggestion
    if follower.name == "crashed":
        title = "crashed"
        explanation, suggestion = crash_words(worker_lives)
    return PostMortem(title, explanation or "It failed without a word.", suggestion,
                      state.evidence or tuple(log[-_LAST_LOG_LINES:]), not state.evidence,
                      good_checkpoint(follower.run, state), tuple(state.attempts),
                      changes_to(follower.run, state.changes), worker_lives)


def cause_words(cause: str | None) -> str:
    """A cause in a few words."""
    return _CAUSES.get(cause or "", cause or "unknown")


def crash_words(worker_lives: bool) -> tuple[str, str | None]:
    """What happened to a run without a supervisor, and what to do beyond going on."""
    if worker_lives:
        return ("Its supervisor died without a word, but its training still runs.",
                "r takes it over, s ends it. Nothing is lost either way.")
    return "Its supervisor and its worker are gone without a word: killed, or the machine went down.", None


def good_checkpoint(run: RunDirectory, state: RunState) -> GoodCheckpoint | None:
    """The last good checkpoint, and when it was written; None without one."""
    good = last_good_checkpoint(run, state)
    try:
        return GoodCheckpoint(good.step, (run.path / good.path / MANIFEST).stat().st_mtime) if good else None
    except OSError:
        return None  # deleted in between


def changes_to(run: RunDirectory, changes: Mapping[str, Any]) -> tuple[SettingChange, ...]:
    """What dotted settings would change of the run's recipe; nothing where that cannot be read."""
    try:
        return applied(load_recipe(run.recipe), changes) if changes else ()
    except WorkbenchError:
        return ()
