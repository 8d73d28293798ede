"""What would go wrong with a run that queues: it may wait for memory, but must not wait for ever."""

from collections.abc import Iterator
from pathlib import Path

from workbench.engine.figures import gib
from workbench.engine.memory.terms import CUDA_CONTEXT
from workbench.engine.planning import Plan
from workbench.engine.preflight import PreflightCheck, Surroundings, preflight
from workbench.engine.runs.queue import Wants, devices_of, most_offered, wanted_devices


def preflight_queued(plan: Plan, base_dir: Path | None,
                     around: Surroundings | None = None) -> tuple[PreflightCheck, ...]:
    """As `preflight`, but what is on the GPUs now is no matter: the run waits until it is gone."""
    checks = preflight(plan, base_dir, around)
    stages = plan.stages or (plan,)
    if not plan.gpus or any(stage.recipe.hardware.use_cpu for stage in stages):
        return checks
    kept = [check for check in checks if check.id not in ("memory", "gpu-free")]
    return (*kept, *dict.fromkeys(check for stage in stages for check in _memory(stage)))


def _memory(stage: Plan) -> Iterator[PreflightCheck]:
    estimate = stage.comparison[stage.recipe.tuning].estimate if stage.comparison else None
    if estimate is None:
        return  # it waits for an idle GPU
    wants = Wants("", stage.recipe.hardware.gpus, need_bytes=estimate.high_bytes + CUDA_CONTEXT)
    wanted = wanted_devices(wants, devices_of(stage.gpus))
    if any(device.could_hold(wants) for device in wanted):
        yield PreflightCheck("memory", "ok", f"It starts when {gib(wants.need_bytes)} are free on a GPU.")
        return
    mend = stage.suggestions[0].words if stage.suggestions else "A smaller batch, shorter rows, or tuning: qlora"
    yield PreflightCheck("memory", "problem", f"Queued, the run would wait for {gib(wants.need_bytes)} for ever: no "
                         f"GPU that it may use offers more than {gib(most_offered(wanted))}.",
                         f"{mend}; or launch it without the queue.")
