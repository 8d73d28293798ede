"""Going on with a run in its own directory: from its newest good checkpoint, or with the worker that still trains."""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from workbench.engine.catalog.trained import adapter_shape, lora_faults
from workbench.engine.errors import InputError, RunError
from workbench.engine.planning import Plan
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.chain import StageOf, chain_of, stage_of
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.escalation import size_of
from workbench.engine.runs.going_on import ResumeRequest, checkpoint_at, newest_checkpoint, saved_steps, step_of
from workbench.engine.runs.journal import find_rest
from workbench.engine.runs.launcher import queue_flags, start_supervisor
from workbench.engine.runs.liveness import lock_holder
from workbench.engine.runs.queue_file import join_queue
from workbench.engine.runs.resumable import WAY_OUT, damage, differences, unlike
from workbench.engine.runs.state import AT_REST, ENDED
from workbench.engine.runs.store import RunFollower, summarise
from workbench.engine.runs.worker_process import living_worker

_NOTICE_SECONDS = 5.0
_LEAVE_SECONDS = 20.0


@dataclass(frozen=True)
class Resumption:
    """A run that can go on, and how. `later` are the stages of its pipeline that wait for it again."""

    run: RunDirectory
    request: ResumeRequest | None
    """None where its worker still trains: a new supervisor takes it over as it is."""
    later: tuple[RunDirectory, ...] = ()
    queue: bool = False
    """Whether it waited in the queue when it came to rest, and goes back there."""

    @property
    def words(self) -> list[str]:
        """What will be done, in sentences."""
        if self.request is None:
            return [f"{self.run.id} still trains, without a supervisor: a new one takes it over."]
        where = "from its beginning" if self.request.checkpoint is None else f"from step {self.request.step}"
        changes = ", ".join(f"{name} = {value}" for name, value in self.request.changes.items())
        behind = " It waits in the queue again, behind the others." if self.queue else ""
        return [*self.request.notes, f"{self.run.id} goes on {where}{f' with {changes}' if changes else ''}.{behind}"]

    def start(self, queue: bool = False) -> list[RunDirectory]:
        """Start what is needed, with `queue` in the queue's order; the runs that go on. Raises RunError, also where
        somebody else was quicker."""
        queue = queue or self.queue
        if queue and self.request is not None:
            join_queue(self.run)
        _start(self.run, self.request, queue)
        for number, stage in enumerate(self.later):
            try:
                _start(stage, ResumeRequest(None, 0, journal_size=size_of(stage.events)), queue)
            except RunError as error:
                rest = ", ".join(one.id for one in self.later[number:])
                raise RunError(f"{self.run.id} goes on, but what comes after it does not wait: {error.message}",
                               f"Once it has finished, go on with {rest}: workbench resume {stage.id}") from None
        return [self.run, *self.later]


def _start(run: RunDirectory, request: ResumeRequest | None, queue: bool) -> None:
    token = secrets.token_hex(8)
    try:
        if request is None:
            start_supervisor(run)
            return
        request.write(run, token)
        start_supervisor(run, *queue_flags(queue), token=token)
    except OSError as error:
        raise RunError(f"{run.id} cannot go on: {error.strerror}.", f"See its directory: {run.path}") from None
    finally:
        with suppress(OSError):
            run.resume_request(token).unlink(missing_ok=True)


def resume(run: RunDirectory, plan: Callable[[Recipe], Plan], overrides: Sequence[str] = (), *,
           step: int | None = None, apply: bool = False) -> list[RunDirectory]:
    """Prepare and start: see `prepare_resume`. The runs that go on, the first of them first."""
    return prepare_resume(run, plan, overrides, step=step, apply=apply).start()


def prepare_resume(run: RunDirectory, plan: Callable[[Recipe], Plan], overrides: Sequence[str] = (), *,
                   step: int | None = None, apply: bool = False) -> Resumption:
    """How a run goes on; of a pipeline the first stage that is not finished. Nothing is started or changed yet.

    `overrides` are changes to its recipe, `apply` takes those that its failure suggests, `step` picks a checkpoint.
    Raises RunError where there is nothing to resume or it still runs, InputError for what cannot be changed.
    """
    run, later = _target(run)
    _let_leave(run)
    size = size_of(run.events)
    if living_worker(run) is not None:
        if overrides or apply or step is not None:
            raise RunError(f"{run.id} still trains, so it can only be taken over as it is.",
                           f"To change it, stop it first: workbench stop {run.id}")
        return Resumption(run, None, later)
    before = load_recipe(run.recipe)
    recipe = load_recipe(run.recipe, [*(_suggested(run) if apply else ()), *overrides])
    changes = {name: now for name, (_, now) in differences(before.model_dump(mode="json"),
                                                          recipe.model_dump(mode="json")).items()}
    checkpoint, notes = _checkpoint(run, step)
    if checkpoint is not None and (found := unlike(run, recipe, run.path / checkpoint)):
        raise InputError(f"{run.id} cannot go on from step {step_of(checkpoint)}: {' '.join(found)}", WAY_OUT)
    planned = plan(recipe)
    if planned.problems:
        raise InputError(planned.problems[0].message, planned.problems[0].hint)
    _refuse_another_shape([recipe, *(load_recipe(one.recipe) for one in later)], [run, *later])
    return Resumption(run, ResumeRequest(
        checkpoint, (step_of(checkpoint) or 0) if checkpoint is not None else 0,
        recipe.model_dump(mode="json") if changes else None, changes, planned.to_json() if changes else None,
        tuple(notes), size), later, waited_in_queue(run))


def waited_in_queue(run: RunDirectory) -> bool:
    """Whether a run came to rest while it waited for its turn: going on, it waits again and does not overtake."""
    if summarise(run).step:
        return False  # its journal may be long
    follower = RunFollower(run)
    follower.refresh()
    return follower.state.waited


def _target(run: RunDirectory) -> tuple[RunDirectory, tuple[RunDirectory, ...]]:
    """(the run that goes on, those that must wait for it again). Raises RunError."""
    place = stage_of(run)
    if place is None:
        state = summarise(run).state
        if state == "finished":
            raise RunError(f"{run.id} is finished; there is nothing to resume.",
                           f"Train what it learned further, as a new run: its recipe with model: {run.model}")
        if state not in AT_REST:
            raise RunError(f"{run.id} is {state}, so there is nothing to resume.",
                           f"Watch it: workbench watch {run.id}")
        return run, ()
    chain = chain_of(place.id)
    states = [summarise(one).state for one in chain]
    _refuse_gaps(chain, place)
    unfinished = [number for number, state in enumerate(states) if state != "finished"]
    if not unfinished:
        raise RunError(f"All {place.of} stages of {place.name} are finished; there is nothing to resume.")
    first = unfinished[0]
    if states[first] not in AT_REST:
        raise RunError(f"{chain[first].id} is {states[first]}: {place.name} has not ended, so there is nothing to "
                       "resume.", f"Watch it: workbench watch {chain[first].id}")
    later = chain[first + 1:]
    if states[first] != "paused":
        _let_them_notice(later)
    return chain[first], tuple(one for one in later if summarise(one).state in ENDED)


def _let_them_notice(stages: Sequence[RunDirectory]) -> None:
    """Wait until no stage waits any more for one that has just ended: their supervisors are about to say so and leave,
    and would miss that it goes on."""
    deadline = time.monotonic() + _NOTICE_SECONDS
    while time.monotonic() < deadline and any(summarise(stage).state in ("waiting", "queued") for stage in stages):
        time.sleep(0.05)


def _let_leave(run: RunDirectory) -> None:
    """Wait until nothing is left of who brought a run to rest: its worker says so before it ends and frees its memory.
    Raises RunError where it does not leave."""
    if find_rest(run.events) is None:
        return
    deadline = time.monotonic() + _LEAVE_SECONDS
    while living_worker(run) is not None or lock_holder(run.lock) is not None:
        if time.monotonic() > deadline:
            raise RunError(f"{run.id} has come to rest, but its worker has not left yet.", "Try again in a moment.")
        time.sleep(0.05)


def _refuse_gaps(chain: Sequence[RunDirectory], place: StageOf) -> None:
    if len(chain) < place.of:
        there = {stage.stage for run in chain if (stage := stage_of(run)) is not None}
        gone = next(number for number in range(1, place.of + 1) if number not in there)
        raise RunError(f"Stage {gone} of {place.name} was deleted, so it cannot go on from there.",
                       "Train the recipe again.")


def _suggested(run: RunDirectory) -> list[str]:
    """The changes that its failure suggests, as overrides. Raises RunError where there are none."""
    follower = RunFollower(run)
    follower.refresh()
    if not follower.state.changes:
        raise RunError(f"{run.id} suggests no change that could be applied.",
                       f"Resume it as it is, or with your own: workbench resume {run.id} --set key=value")
    return [f"{key}={orjson.dumps(value).decode()}" for key, value in follower.state.changes.items()]


def _checkpoint(run: RunDirectory, step: int | None) -> tuple[str | None, list[str]]:
    """(the checkpoint of that step or the newest good one, why newer ones were refused). Raises InputError."""
    if step is None:
        return newest_checkpoint(run)
    if step == 0:
        return None, []
    saved = saved_steps(run)
    if step not in saved:
        there = f"There are: {', '.join(map(str, sorted(saved)))}." if saved else "There are none."
        raise InputError(f"{run.id} has no checkpoint of step {step}.", there + " 0 is its beginning.")
    if fault := next(damage(run.path / checkpoint_at(step)), None):
        raise InputError(fault, "Leave out --from: the newest good one is taken.")
    return checkpoint_at(step), []


def _refuse_another_shape(recipes: Sequence[Recipe], runs: Sequence[RunDirectory]) -> None:
    """Raise InputError where a later stage goes on training the first one's adapter, which has another shape now."""
    first, *later = recipes
    for number, recipe in enumerate(later, 1):
        if "full" in (first.tuning, recipe.tuning) or not Path(recipe.model).is_relative_to(runs[0].path):
            continue
        for _, message, _ in lora_faults(recipe.lora, adapter_shape(first.lora)):
            raise InputError(f"{runs[number].name}: {message}",
                             "Resume with the shape it had, or train the recipe again.")
