"""A pipeline's later stage waits for the one before it: what it waits for, and what it says when that does not come."""

from collections.abc import Callable
from contextlib import suppress

from workbench.engine.paths import runs_dir
from workbench.engine.runs.aftermath import write_event
from workbench.engine.runs.chain import StageOf, stage_of
from workbench.engine.runs.directory import RUN_ID, RunDirectory
from workbench.engine.runs.journal import find_rest
from workbench.engine.runs.postmortem import Ending
from workbench.engine.runs.store import is_supervised


def previous_run(stage: StageOf) -> RunDirectory | None:
    """The run that must finish first; None for a first stage."""
    if stage.previous is None or not RUN_ID.fullmatch(stage.previous):
        return None
    return RunDirectory(runs_dir() / stage.previous)


def outcome_of(run: RunDirectory) -> str | None:
    """`finished`, `stopped`, `failed`, `crashed` or `deleted`; None while it goes on, is paused, or has
    not left its GPU yet."""
    # Liveness first: a run that ends between the two looks must not seem to have crashed.
    if is_supervised(run):
        return None
    rest = find_rest(run.events)
    if rest is not None:
        return str(rest.get("outcome")) if rest["type"] == "ended" else None
    return "crashed" if run.path.is_dir() else "deleted"


def wait_for_previous(run: RunDirectory, idle: Callable[[], bool]) -> Ending | None:
    """Of a pipeline's later stage: wait for the one before. Its end where that one did not finish; None when it can
    start, and where `idle`, which does what else is to be done, says to wait no longer. Raises OSError where it cannot
    be seen how that one is."""
    stage = stage_of(run)
    previous = previous_run(stage) if stage is not None else None
    if stage is None or previous is None:
        return None
    outcome = outcome_of(previous)
    if outcome is None:
        with suppress(OSError):  # a full disk: it waits all the same
            write_event(run, "waiting", reason=waiting_words(stage, previous), run=previous.id)
    while outcome is None and idle():
        outcome = outcome_of(previous)
    return None if outcome in (None, "finished") else ending_without(stage, previous, outcome, run.id)


def waiting_words(stage: StageOf, previous: RunDirectory) -> str:
    """What a waiting run is doing."""
    return f"waiting for stage {stage.stage - 1} ({previous.name})"


def ending_without(stage: StageOf, previous: RunDirectory, outcome: str, own_id: str) -> Ending:
    """The end of a stage whose predecessor did not finish."""
    was = f"was {outcome}" if outcome in ("stopped", "deleted") else outcome
    explanation = f"Not started: stage {stage.stage - 1}, {previous.id}, {was}."
    if outcome == "deleted":
        return Ending("stopped", explanation=explanation, suggestion="Train the recipe again.")
    how = f"See why (workbench show {previous.id}), then go on from there: workbench resume {own_id}"
    return Ending("stopped", explanation=explanation, suggestion=how)


def stopped_before_its_turn(run: RunDirectory) -> Ending:
    """The end of a run that was asked to stop while it waited."""
    it = "it and what comes after it" if stage_of(run) else "it"
    return Ending("stopped", explanation="Stopped on request, before its turn came.",
                  suggestion=f"Start {it} again: workbench resume {run.id}")


def stopped_while_paused() -> Ending:
    """The end of a run that was asked to stop when it had come to rest for a pause."""
    return Ending("stopped", explanation="Stopped on request while it was paused.")
