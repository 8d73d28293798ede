"""What a run leaves to go on from: its result, or a checkpoint of it, found by a word."""

from pathlib import Path

from workbench.engine.errors import InputError
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.directory import RUN_ID, RunDirectory, find_run, list_run_directories
from workbench.engine.runs.manifest import MANIFEST, verify
from workbench.engine.runs.state import ENDED
from workbench.engine.runs.store import read_json, summarise

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def named_artefact(reference: str) -> Path | None:
    """The directory that `last`, RUN:step or a run's whole id names; None for any other word. Raises InputError."""
    name, colon, step = reference.rpartition(":")
    if colon and step.isdecimal() and (name == "last" or any(name in run.id for run in list_run_directories())):
        return checkpoint_of(find_run(name), step)
    if reference == "last" or RUN_ID.fullmatch(reference):
        return result_of(find_run(reference))
    return None


def names_part_of_a_run(reference: str) -> bool:
    """Whether some run's id contains the word."""
    return bool(reference) and any(reference in run.id for run in list_run_directories())


def result_of(run: RunDirectory, purpose: str = "start from") -> Path:
    """The run's final model, else its newest checkpoint that verifies. Raises InputError where there is none yet."""
    if run.model.is_dir():
        return run.model
    for checkpoint in sorted(run.checkpoints.glob("step-*"), reverse=True):
        if verify(checkpoint) is None:
            return checkpoint
    raise _nothing_yet(run, purpose)


def checkpoint_of(run: RunDirectory, step: str) -> Path:
    """What the run saved at a step. Raises InputError, which lists what there is."""
    saved = {step_of(path): path for path in (run.model, *run.checkpoints.glob("step-*")) if path.is_dir()}
    if step.isdecimal() and int(step) in saved:
        return saved[int(step)]
    known = ", ".join(str(number) for number in sorted(number for number in saved if number is not None))
    raise InputError(f"{run.id} has no checkpoint of step {step}.",
                     f"It has: {known}." if known else "It has saved nothing yet.")


def run_of(folder: Path) -> RunDirectory | None:
    """The run that a folder is, or whose model or checkpoint it is."""
    return next((RunDirectory(path) for path in (folder, folder.parent, folder.parent.parent)
                 if RUN_ID.fullmatch(path.name) and (path / "recipe.yaml").is_file()), None)


def step_of(directory: Path) -> int | None:
    """The step a directory was saved at, by its manifest, else by its name."""
    step = read_json(directory / MANIFEST).get("step")
    if isinstance(step, int):
        return step
    name = directory.name.removeprefix("step-")
    return int(name) if name.isdecimal() else None


def _nothing_yet(run: RunDirectory, purpose: str) -> InputError:
    summary = summarise(run)
    if summary.state in ENDED:
        return InputError(f"{run.id} {summary.state} before it saved anything, so there is nothing to {purpose}.")
    save_steps = load_recipe(run.recipe).training.save_steps
    end = summary.total_steps
    steps = [] if save_steps is None else [(summary.step // save_steps + 1) * save_steps]
    when = min([*steps, *([end] if end else [])], default=None)
    moment = "when it ends" if when is None else f"at step {when}"
    return InputError(f"{run.id} has nothing to {purpose} yet; it saves {moment}, and is at step {summary.step}.",
                      "Watch has a key that saves a checkpoint now.")
