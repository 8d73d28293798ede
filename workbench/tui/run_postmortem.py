"""What the post-mortem of a run says: gathered from its journal, its recipe and its checkpoints. Everything here
blocks: it belongs in a thread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.engine.errors import WorkbenchError
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.manifest import MANIFEST
from workbench.engine.runs.state import Attempt, RunState
from workbench.engine.runs.store import RunFollower

UNHAPPY = frozenset({"failed", "crashed"})
"""States that a run is told to have come to by a post-mortem."""
_LAST_LOG_LINES = 4
_CAUSES = {"oom": "out of memory", "nan": "the loss is no number", "disk": "the disk is full", "killed": "killed",
           "hub": "Hugging Face Hub", "data": "its data", "error": "an error", "hang": "it hung"}


@dataclass(frozen=True)
class Change:
    """One setting of a recipe, dotted, and its values before and after."""

    setting: str
    old: Any
    new: Any


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
    changes: tuple[Change, ...]
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
                      last_good_checkpoint(follower.run, state), tuple(state.attempts),
                      changes_to(follower.run, state.changes), worker_lives)


def cause_words(cause: str | None) -> str:
    """A cause in a few words."""
    return _CAUSES.get(cause or "", cause or "unknown")


def crash_words(worker_lives: bool) -> tuple[str, str]:
    """What happened to a run without a supervisor, and what to do."""
    if worker_lives:
        return ("Its supervisor died without a word, but its training still runs.",
                "r takes it over, s ends it. Nothing is lost either way.")
    return ("Its supervisor and its worker are gone without a word: killed, or the machine went down.",
            "r goes on from the last checkpoint.")


def last_good_checkpoint(run: RunDirectory, state: RunState) -> GoodCheckpoint | None:
    """The newest checkpoint that was verified when it was written and is still there; None without one."""
    for checkpoint in sorted(state.checkpoints, key=lambda kept: kept.step, reverse=True):
        try:
            written = (run.path / checkpoint.path / MANIFEST).stat().st_mtime
        except (OSError, ValueError):
            continue
        if checkpoint.verified:
            return GoodCheckpoint(checkpoint.step, written)
    return None


def changes_to(run: RunDirectory, changes: Mapping[str, Any]) -> tuple[Change, ...]:
    """Dotted settings beside what the run's recipe says now; those that it says already are left out."""
    if not changes:
        return ()
    try:
        recipe: Any = load_recipe(run.recipe).model_dump(mode="json")
    except WorkbenchError:
        recipe = {}
    found = [Change(setting, _setting(recipe, setting), new) for setting, new in changes.items()]
    return tuple(change for change in found if change.old != change.new)


def _setting(recipe: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        recipe = recipe.get(part) if isinstance(recipe, dict) else None
    return recipe
