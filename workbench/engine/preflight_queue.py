"""What would go wrong with a run that queues: it may wait for memory, but must not wait for ever; and what makes a run
fit."""

from collections.abc import Iterator
from contextlib import suppress

from workbench.engine.errors import InputError
from workbench.engine.figures import gib
from workbench.engine.memory.comparison import case_for
from workbench.engine.memory.suggestions import Suggestion, suggest
from workbench.engine.memory.terms import CUDA_CONTEXT
from workbench.engine.planning import Plan, memory_case
from workbench.engine.preflight_check import PreflightCheck
from workbench.engine.runs.queue import Wants, devices_of, most_offered, wanted_devices


def memory_fix(stage: Plan, offered_bytes: int | None) -> str:
    """What to change so that a run fits into so many bytes of a GPU: the cheapest change that is enough, or that none
    is."""
    found: tuple[Suggestion, ...] = ()
    if stage.architecture is not None and offered_bytes is not None:
        with suppress(InputError):
            found = suggest(stage.architecture, case_for(memory_case(stage.recipe), stage.recipe.tuning),
                            offered_bytes - CUDA_CONTEXT)
    if not found:
        return "A smaller batch, shorter rows, or tuning: qlora; see `workbench plan`."
    enough = next((suggestion.words for suggestion in found if suggestion.fit == "fits"), None)
    return f"{enough}; see `workbench plan`." if enough else \
        "No change of its settings makes it fit: take a smaller model, or a GPU with more memory."


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
    yield PreflightCheck("memory", "problem", f"In the queue the run would wait for {gib(wants.need_bytes)} for ever: "
                         f"no GPU that it may use offers more than {gib(most_offered(wanted))}.",
                         memory_fix(stage, most_offered(wanted)))
