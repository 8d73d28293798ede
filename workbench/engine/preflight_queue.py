"""What would go wrong with a run that queues: it may wait for memory, but must not wait for ever."""

from collections.abc import Iterator

from workbench.engine.figures import gib
from workbench.engine.memory.terms import CUDA_CONTEXT
from workbench.engine.planning import Plan
from workbench.engine.preflight_check import PreflightCheck
from workbench.engine.runs.queue import Wants, devices_of, most_offered, wanted_devices


def queued_memory(stage: Plan) -> Iterator[PreflightCheck]:
    """Whether a GPU that it may take ever offers what the queue waits for; what is on them now is no matter."""
    estimate = stage.comparison[stage.recipe.tuning].estimate if stage.comparison else None
    if estimate is None:
        return  # it waits for an idle GPU
    wants = Wants("", stage.recipe.hardware.gpus, need_bytes=estimate.high_bytes + CUDA_CONTEXT)
    wanted = wanted_devices(wants, devices_of(stage.gpus))
    if any(device.could_hold(wants) for device in wanted):
        yield PreflightCheck("memory", "ok", f"It starts when {gib(wants.need_bytes)} are free on a GPU.")
        return
    mend = stage.suggestions[0].words if stage.suggestions else "A smaller batch, shorter rows, or tuning: qlora"
    yield PreflightCheck("memory", "problem", f"In the queue the run would wait for {gib(wants.need_bytes)} for ever: "
                         f"no GPU that it may use offers more than {gib(most_offered(wanted))}.",
                         f"{mend}: see `workbench plan`.")
