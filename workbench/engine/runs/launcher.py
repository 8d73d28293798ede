"""Launching: a recipe becomes a run directory and a detached supervisor."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench.engine.atomic import write_atomic, write_json
from workbench.engine.catalog.models import resolve_model
from workbench.engine.data.chat_template import resolve_chat_template
from workbench.engine.data.sources import resolve_dataset
from workbench.engine.errors import InputError, RunError
from workbench.engine.objective_checks import reward_references
from workbench.engine.pipeline import stage_links, stage_recipes
from workbench.engine.planning import Plan
from workbench.engine.processes import child_environment
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import recipe_to_yaml
from workbench.engine.rewards import reward_source
from workbench.engine.runs.chain import StageOf
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.escalation import size_of
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.liveness import NOT_OURS, acquire_lock, lock_holder, release_lock
from workbench.engine.runs.postmortem import Ending
from workbench.engine.runs.queue_file import join_queue
from workbench.engine.runs.reserve import has_room
from workbench.engine.runs.scope import scope_command

_START_SECONDS = 20.0
_IN_CHARGE = 0
_LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate")


def launch(recipe: Recipe, plan: Plan, base_dir: Path | None = None,
           rehearsal: Mapping[str, Any] | None = None, queue: bool = False) -> RunDirectory:
    """Start a run that outlives this process, and return once its supervisor is in charge; of a pipeline all its runs,
    the first of which is returned.

    `base_dir` is where the recipe's relative paths start; `rehearsal` is what a rehearsal of this very recipe found,
    at least its `peak_bytes`. With `queue` the run waits for a GPU of its own behind those that wait already; so does
    every later stage, when its turn in the pipeline has come. Raises InputError or RunError.
    """
    if plan.problems:
        raise InputError(plan.problems[0].message, plan.problems[0].hint)
    if recipe.stages:
        return _launch_stages(recipe, plan, base_dir, queue)
    resolved = resolve_recipe(recipe, base_dir)
    run = create_run_directory(resolved.name)
    write_run(run, resolved, plan.to_json(), plan.dataset_fingerprint, rehearsal)
    if queue:
        join_queue(run)  # before its supervisor starts: those who queue stand in the order of their launch
    start_supervisor(run, *queue_flags(queue))
    return run


def _launch_stages(recipe: Recipe, plan: Plan, base_dir: Path | None, queue: bool) -> RunDirectory:
    """Every stage's run; all but the first wait for the one before. Gives the first."""
    resolved = [resolve_recipe(stage, base_dir) for stage in stage_recipes(recipe)]
    runs: list[RunDirectory] = []
    for stage in resolved:
        runs.append(create_run_directory(stage.name, after=runs[-1] if runs else None))
    for number, (run, stage, link) in enumerate(zip(runs, resolved, stage_links(recipe), strict=True)):
        changes: dict[str, Any] = {} if link.start is None else {"model": str(runs[link.start].model)}
        if link.reward is not None:
            changes["rlhf"] = stage.rlhf.model_copy(update={"reward": (str(runs[link.reward].model),)})
        place = StageOf(runs[0].id, recipe.name, number + 1, len(runs), runs[number - 1].id if number else None)
        write_run(run, stage.model_copy(update=changes), plan.stages[number].to_json(),
                  plan.stages[number].dataset_fingerprint, pipeline=place)
    if queue:
        join_queue(runs[0])
    for number, run in enumerate(runs):
        try:
            start_supervisor(run, *queue_flags(queue))
        except RunError as error:
            if number == 0:
                raise
            for late in runs[number:]:
                _never_started(late, error)
            raise RunError(f"{runs[0].id} trains, but what comes after it does not wait: {error.message}",
                           f"Once it has finished, go on from there: workbench resume {run.id}") from None
    return runs[0]


def _never_started(run: RunDirectory, error: RunError) -> None:
    """The end of a stage that has no supervisor to say so: those after it must not wait for it."""
    lock = acquire_lock(run.lock)
    if lock is None:
        return
    try:
        with Journal(run.events) as journal:
            journal.append("ended", **Ending("stopped", explanation=f"Not started: {error.message}").to_event())
    finally:
        release_lock(run.lock, lock)


def write_run(run: RunDirectory, recipe: Recipe, plan: Any, dataset_fingerprint: str | None,
              rehearsal: Mapping[str, Any] | None = None, pipeline: StageOf | None = None) -> None:
    """Write what a run starts with into its directory: the resolved recipe, and what is known before it starts."""
    write_atomic(run.recipe, recipe_to_yaml(recipe, full=True).encode())
    write_json(run.plan, {"plan": plan, "recipe": recipe.model_dump(mode="json"),
                          "rehearsal": dict(rehearsal) if rehearsal else None, "versions": library_versions(),
                          "dataset_fingerprint": dataset_fingerprint,
                          "pipeline": pipeline.to_json() if pipeline else None})


def resolve_recipe(recipe: Recipe, base_dir: Path | None) -> Recipe:
    """The recipe with every default and path made explicit: it means the same in any folder."""

    def absolute(reference: str) -> str:
        source = resolve_dataset(reference, base_dir)
        return str(source.path) if source.kind in ("file", "folder") else source.name

    dataset = recipe.dataset.model_copy(update={
        "path": absolute(given) if isinstance(given := recipe.dataset.path, str)
        else tuple(part.model_copy(update={"path": absolute(part.path)}) for part in given),
        "eval_path": absolute(recipe.dataset.eval_path) if recipe.dataset.eval_path else None,
    })
    return recipe.model_copy(update={
        "model": resolve_model(recipe.model, base_dir).reference,
        "dataset": dataset,
        "data": recipe.data.model_copy(update={
            "chat_template": resolve_chat_template(recipe.data.chat_template, base_dir)}),
        "training": recipe.training.model_copy(update={"learning_rate": recipe.learning_rate}),
        "rlhf": recipe.rlhf.model_copy(update={"reward": _rewards(recipe, base_dir)}),
    })


def _rewards(recipe: Recipe, base_dir: Path | None) -> tuple[str, ...] | None:
    """The rewards with the files of their functions and models; of other objectives they stay as they are."""
    rewards = reward_references(recipe)
    if recipe.objective == "rlhf":
        rewards = tuple(reward_source(reward, base_dir).reference for reward in rewards)
    return rewards or None


def queue_flags(queue: bool) -> list[str]:
    """What a supervisor is started with that shall wait for a GPU in the queue's order: where its run has joined, else
    behind all others."""
    return ["--queue"] if queue else []


def supervisor_command(run: RunDirectory, arguments: Sequence[str]) -> list[str]:
    """The command line of a run's supervisor, by which `ps` shows what it is."""
    return [sys.executable, "-m", "workbench.engine.runs.supervisor", run.id, *arguments]


def start_supervisor(run: RunDirectory, *arguments: str, token: str | None = None) -> None:
    """Start the run's supervisor outside this login session: in a scope of the user's systemd, or where there is none,
    or it fails, in a session of its own. With a `token`, to go on with what that request says.

    Raises RunError when it does not take charge, also because another one has.
    """
    run.supervisor_log.touch(mode=0o600)
    request = run.resume_request(token) if token is not None else None
    command = supervisor_command(run, [*arguments, *(["--resume", token] if token is not None else [])])
    scope = scope_command(run.id)
    said = run.supervisor_log.stat().st_size
    returncode = _start([*scope, *command], run, request, last=not scope)
    if scope and returncode not in (_IN_CHARGE, NOT_OURS):
        returncode = _start(command, run, request)
    if returncode == _IN_CHARGE:
        return
    if returncode == NOT_OURS and lock_holder(run.lock) is not None:
        raise RunError(f"{run.id} is already running: somebody else was quicker.",
                       f"Watch it: workbench watch {run.id}")
    lines = run.supervisor_log.read_bytes()[said:].decode(errors="replace").strip().splitlines()
    if not lines and not has_room(run):  # what it had to say is on the same disk
        raise RunError(f"The supervisor of {run.id} did not start: the disk is full, on which {run.path} is.",
                       "Free some space, then try again.")
    raise RunError(f"The supervisor of {run.id} did not start: {lines[-1] if lines else 'it said nothing'}.",
                   f"See {run.supervisor_log}.")


def _start(command: Sequence[str], run: RunDirectory, request: Path | None, last: bool = True) -> int | None:
    """Start a supervisor and wait until it is in charge: 0, else what it ended with, None where it neither took charge
    nor ended in time. One that is not the `last` to be tried is ended then."""
    with run.supervisor_log.open("ab") as log:
        supervisor = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=run.path,
            env=child_environment(),
            umask=0o077)  # inherited by the worker: libraries write most of a run's files
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        ended = supervisor.poll()
        # The request goes once the journal says that the run goes on: before, it still looks as if it had ended.
        taken = not request.exists() if request is not None else size_of(run.events) > 0
        if taken and (ended in (0, 1) or (ended is None and lock_holder(run.lock) == supervisor.pid)):
            return _IN_CHARGE
        if ended is not None:
            return ended
        time.sleep(0.02)
    if not last:
        supervisor.kill()
    return None


def library_versions() -> dict[str, Any]:
    """Versions of the libraries that decide what a run does; None for one that is not installed."""
    versions: dict[str, Any] = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions
