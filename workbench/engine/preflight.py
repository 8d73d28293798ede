"""What would go wrong, looked at before a run starts: disk, memory, GPU, model, dataset, Hub; each with its fix."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from workbench.engine import preflight_inputs as inputs
from workbench.engine import preflight_machine as machine
from workbench.engine.planning import Plan
from workbench.engine.preflight_check import PreflightCheck, Surroundings

__all__ = ["NEVER_PASSED", "PreflightCheck", "Surroundings", "preflight", "problems_of"]

NEVER_PASSED: frozenset[str] = frozenset({"dataset", "model"})
"""Problems that no `--force` passes: what is read would be wrong, or its code would run."""


def preflight(plan: Plan, base_dir: Path | None, around: Surroundings | None = None) -> tuple[PreflightCheck, ...]:
    """Look at everything a planned run needs; of a pipeline at what any stage does. Never raises for what the user can
    mend. Reads headers, and may ask the Hub for some seconds: not for an event loop."""
    around = around or Surroundings()
    found: list[PreflightCheck] = [machine.permission()]
    stages = plan.stages or (plan,)
    found += machine.disk(stages, around)
    for number, stage in enumerate(stages):
        later = number > 0 and stage.recipe.model == stages[0].recipe.model
        checks = [*machine.memory(stage, around), *machine.gpu_free(stage, around),
                  *inputs.dataset(stage, base_dir, around), *(() if later else inputs.model(stage, around))]
        found += [replace(check, message=f"Stage {number + 1}: {check.message}") if plan.stages and number else check
                  for check in checks]
    seen: dict[tuple[str, str], PreflightCheck] = {}
    for check in found:
        seen.setdefault((check.id, check.message), check)
    return tuple(seen.values())


def problems_of(checks: Iterable[PreflightCheck], force: bool = False) -> list[PreflightCheck]:
    """What keeps the run from starting; with `force` only what must never be passed."""
    return [check for check in checks if check.status == "problem" and (not force or check.id in NEVER_PASSED)]
