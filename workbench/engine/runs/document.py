"""A run as one JSON document: what `workbench show --json` prints."""

from dataclasses import asdict
from typing import Any

from workbench.engine.errors import WorkbenchError
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_diff import applied
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.chain import stage_of
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import encode_number
from workbench.engine.runs.manifest import MANIFEST
from workbench.engine.runs.peaks import estimated_peak, memory_peaks
from workbench.engine.runs.state import CheckpointInfo, RunState, metric_points
from workbench.engine.runs.store import RunFollower


def run_document(follower: RunFollower) -> dict[str, Any]:
    """Everything known of a run that was refreshed: keys as in the interface's list, numbers as JSON can carry them."""
    run, state = follower.run, follower.state
    try:
        recipe: Recipe | None = load_recipe(run.recipe)
    except WorkbenchError:
        recipe = None
    good = last_good_checkpoint(run, state)
    losses, place = state.metrics.get("train/loss"), stage_of(run)
    return {
        "id": run.id, "name": run.name, "directory": str(run.path), "state": follower.name, "phase": state.phase,
        "cause": state.cause, "explanation": state.explanation, "suggestion": state.suggestion,
        "evidence": list(state.evidence), "suggested_changes": state.changes,
        "recipe_diff": [asdict(change) for change in applied(recipe, state.changes)] if recipe else [],
        "last_good_checkpoint": {"step": good.step, "path": str(run.path / good.path)} if good else None,
        "restarts": state.restarts, "step": state.step, "total_steps": state.total_steps, "epoch": state.epoch,
        "losses": metric_points(losses) if losses else [],
        "metrics": {name: metric_points(series) for name, series in sorted(state.metrics.items())},
        "samples": [{"step": s.step, "prompt": s.prompt, "text": s.text} for s in follower.samples],
        "checkpoints": [{"step": c.step, "path": str(run.path / c.path), "verified": c.verified,
                         "best": c.best, "metric": None if c.metric is None else encode_number(c.metric)}
                        for c in kept_checkpoints(run, state)],
        "alerts": [{"step": a.step, "level": a.level, "message": a.message} for a in state.alerts],
        "resumed_from": state.resumed_from, "tokens_per_second": state.last("perf/tokens_per_second"),
        "memory": asdict(memory_peaks(state, estimated_peak(run))),
        "trainable_parameters": state.trainable_parameters, "parameters": state.parameters, "device": state.device,
        "pipeline": place.to_json() if place else None,
        "recipe": recipe.model_dump(mode="json") if recipe else None,
        "started": state.started, "ended": state.ended, "damaged_lines": follower.corrupt,
    }


def kept_checkpoints(run: RunDirectory, state: RunState) -> list[CheckpointInfo]:
    """The checkpoints that are still there: one that is set aside, for a NaN after it, is no longer."""
    return [checkpoint for checkpoint in state.checkpoints if (run.path / checkpoint.path / MANIFEST).is_file()]


def last_good_checkpoint(run: RunDirectory, state: RunState) -> CheckpointInfo | None:
    """The newest checkpoint that verified when it was written and is still there; its bytes are not read again here."""
    good = (checkpoint for checkpoint in kept_checkpoints(run, state) if checkpoint.verified)
    return max(good, key=lambda checkpoint: checkpoint.step, default=None)
