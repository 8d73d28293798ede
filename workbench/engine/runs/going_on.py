"""What a run's directory needs before a worker goes on in it: a checkpoint to begin from, its recipe, a clean desk."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from workbench.engine.atomic import write_atomic, write_json
from workbench.engine.runs.directory import RunDirectory, numbered
from workbench.engine.runs.journal import read_tail
from workbench.engine.runs.store import read_json

_STEP = re.compile(r"step-(\d{1,12})")
_TOKEN = re.compile(r"[0-9a-f]{1,32}")


@dataclass(frozen=True)
class ResumeRequest:
    """What a new supervisor shall go on with; the content of `resume-<token>.json`."""

    checkpoint: str | None
    """Relative to the run's directory; None: from the beginning."""
    step: int
    recipe: dict[str, Any] | None = None
    """The whole recipe where it changed."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Dotted settings and their new values."""
    plan: dict[str, Any] | None = None
    """The plan of the changed recipe, as plan.json holds it."""
    notes: tuple[str, ...] = ()
    """What its user should know, such as which checkpoints cannot be used."""
    journal_size: int | None = None
    """Bytes of the journal when this was asked for: a run that went on since then is not what was looked at."""

    def write(self, run: RunDirectory, token: str) -> None:
        """Put it where the supervisor that is started with the token looks."""
        write_json(run.resume_request(token), {
            "checkpoint": self.checkpoint, "step": self.step, "recipe": self.recipe,
            "changes": dict(self.changes), "plan": self.plan, "notes": list(self.notes),
            "journal_size": self.journal_size})

    @classmethod
    def read(cls, run: RunDirectory, token: str) -> Self | None:
        """The request of that token; None where there is none that can be used."""
        if not _TOKEN.fullmatch(token):
            return None
        data = read_json(run.resume_request(token))
        checkpoint, step, size = data.get("checkpoint"), data.get("step"), data.get("journal_size")
        recipe, plan = (value if isinstance(value, dict) else None for value in (data.get("recipe"), data.get("plan")))
        if not isinstance(step, int) or not (checkpoint is None or step_of(str(checkpoint)) == step):
            return None
        return cls(None if checkpoint is None else str(checkpoint), step, recipe, data.get("changes") or {}, plan,
                   tuple(map(str, data.get("notes") or ())), size if isinstance(size, int) else None)


def step_of(checkpoint: str) -> int | None:
    """The step of a checkpoint by its place in the run's directory (`checkpoints/step-00000100`); None for another
    path."""
    folder, _, name = checkpoint.rpartition("/")
    found = _STEP.fullmatch(name)
    return int(found.group(1)) if found and folder == "checkpoints" else None


def saved_steps(run: RunDirectory) -> list[int]:
    """The steps of the checkpoints there are, newest first."""
    try:
        names = os.listdir(run.checkpoints)
    except OSError:
        return []
    return sorted((int(found.group(1)) for name in names if (found := _STEP.fullmatch(name))), reverse=True)


def checkpoint_at(step: int) -> str:
    """Where the checkpoint of a step lies in the run's directory."""
    return f"checkpoints/step-{step:08d}"


def newest_checkpoint(run: RunDirectory) -> tuple[str | None, list[str]]:
    """(the newest checkpoint that verifies, of every newer one why it was refused)."""
    from workbench.engine.runs.resumable import damage  # half the engine: a supervisor needs it only now

    refused: list[str] = []
    for step in saved_steps(run):
        fault = next(damage(run.path / checkpoint_at(step)), None)
        if fault is None:
            return checkpoint_at(step), refused
        refused.append(fault)
    return None, refused


def times_resumed(run: RunDirectory) -> int:
    """How often the run was resumed so far. By the bytes: whoever resumes ten million events waits for this."""
    mark = b'"type":"resumed"'  # in a text of an event its quotes would be escaped
    found, rest = 0, b""
    with suppress(FileNotFoundError), run.events.open("rb") as file:  # somebody's, lost: its checkpoints are there
        while block := file.read(1 << 20):
            found += (rest + block).count(mark)
            rest = (rest + block)[1 - len(mark):]
    return found


def has_begun(run: RunDirectory) -> bool:
    """Whether a worker was ever started."""
    return any(event.get("type") not in ("queued", "rehearsed", "waiting") for event in read_tail(run.events))


def clear_desk(run: RunDirectory, step: int, from_beginning: bool) -> list[int]:
    """Set aside what belongs to a branch that is given up; only for who holds the run's lock, while it has no worker.
    Gives the steps of the checkpoints that were set aside, newest first."""
    run.beat.unlink(missing_ok=True)
    beyond = [saved for saved in saved_steps(run) if saved > step or from_beginning]
    set_aside(run, beyond)
    if from_beginning and run.samples.exists():
        with run.samples.open("ab") as file:
            file.write(orjson.dumps({"resumed": -1}) + b"\n")
    return beyond


def set_aside(run: RunDirectory, steps: Sequence[int]) -> None:
    """Move checkpoints to where nobody is offered them. They are kept: which of two branches was the better one is the
    user's to say."""
    if not steps:
        return
    aside = numbered(run.checkpoints, "abandoned-{}")
    aside.mkdir(mode=0o700)
    for step in steps:
        os.rename(run.path / checkpoint_at(step), aside / Path(checkpoint_at(step)).name)


def replace_recipe(run: RunDirectory, recipe: Mapping[str, Any], plan: Mapping[str, Any] | None) -> None:
    """Make the run one of a changed recipe; the one before stays beside it. `plan`: the new recipe's; where it is None
    nothing is estimated any more, as the old estimate was for another batch."""
    from workbench.engine.recipe import Recipe  # pydantic: a supervisor needs it only now
    from workbench.engine.recipe_file import recipe_to_yaml

    text = recipe_to_yaml(Recipe.model_validate(recipe), full=True)
    if run.recipe.exists():
        write_atomic(numbered(run.path, "recipe-{}.yaml"), run.recipe.read_bytes())
    write_atomic(run.recipe, text.encode())
    write_json(run.plan, {**read_json(run.plan), "recipe": dict(recipe), "plan": plan})
