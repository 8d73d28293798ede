"""What the machine must have for a planned run: a home that can be written, disk, memory, a GPU."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from workbench.engine.catalog.models import ModelSource, hub_cache_dir
from workbench.engine.errors import InputError
from workbench.engine.figures import gib
from workbench.engine.hardware.gpus import Gpu, GpuProcess, is_named
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.memory.comparison import DeviceFit, case_for
from workbench.engine.memory.estimate import estimate_memory
from workbench.engine.memory.storage import DiskNeed, disk_need
from workbench.engine.memory.terms import CUDA_CONTEXT
from workbench.engine.paths import runs_dir
from workbench.engine.planning import Plan, memory_case
from workbench.engine.preflight_check import PreflightCheck, Surroundings
from workbench.engine.preflight_queue import memory_fix, queued_memory

_TIGHT = 0.9
"""Of the free disk: what fills more than this is worth a warning, for a run is not alone on it."""
_SETTINGS = (".json", ".jinja", ".model", ".txt")
_PUBLISHED_WIDTH = 2  # bytes a number, in which nearly all models are published (bfloat16)


def permission() -> PreflightCheck:
    """Whether runs can be written."""
    home = runs_dir()
    existing = next(path for path in (home, *home.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return PreflightCheck("permission", "ok", f"Runs can be written to {home}.")
    except OSError as error:
        return PreflightCheck("permission", "problem", f"{existing} cannot be written: {error.strerror}.",
                              "Point WORKBENCH_HOME to a folder that can.")


def disk(stages: tuple[Plan, ...], around: Surroundings) -> Iterator[PreflightCheck]:
    """Whether what all stages write, and what is downloaded, has room."""
    home = runs_dir()
    existing = next(path for path in (home, *home.parents) if path.exists())
    free = around.free_disk(existing) + around.own_bytes
    needs = [need for stage in stages if (need := _need(stage)) is not None]
    if len(needs) < len(stages):
        yield PreflightCheck("disk", "warning", f"How much the run will write is not known; {gib(free)} are free on "
                             f"the disk of {home}.")
    if needs:
        yield _disk_check(needs, free, home, any(stage.recipe.tuning == "full" for stage in stages))
    first = stages[0]
    if first.model is not None and first.model.path is None and first.architecture is not None:
        yield from _download(first.architecture.parameters * _PUBLISHED_WIDTH, first.model.name, around)


def _need(stage: Plan) -> DiskNeed | None:
    if stage.architecture is None:
        return None
    on_cpu = not stage.gpus or stage.recipe.hardware.use_cpu
    try:
        return disk_need(stage.architecture, stage.recipe, memory_case(stage.recipe, on_cpu=on_cpu), stage.steps,
                         _beside_weights(stage.model))
    except InputError:
        return None


def _beside_weights(model: ModelSource | None) -> int | None:
    """Bytes of a model's tokenizer and settings, which are saved along; None where they are not on this disk."""
    if model is None or model.path is None:
        return None
    try:
        return sum(path.stat().st_size for path in model.path.iterdir() if path.suffix in _SETTINGS)
    except OSError:
        return None


def _disk_check(needs: list[DiskNeed], free: int, home: Path, full: bool) -> PreflightCheck:
    total = sum(need.total for need in needs)
    largest = max(needs, key=lambda need: need.total)
    many = f"up to {largest.kept} checkpoints" if largest.kept > 1 else "a checkpoint"
    each = ", and as much at the most for each other stage" if len(needs) > 1 else ""
    words = f"about {gib(total)}: {many} of {gib(largest.checkpoint)} and a result of {gib(largest.result)}{each}"
    ways = ["Free some", *(["keep fewer (training.save_total_limit)"] if largest.kept > 1 else []),
            *(["save adapters only (tuning: lora)"] if full else [])]
    if total > free:
        return PreflightCheck("disk", "problem", f"The run writes {words}, and {gib(free)} are free on the disk of "
                              f"{home}.", f"{', '.join(ways)}, or point WORKBENCH_HOME to a larger disk.")
    if total > _TIGHT * free:
        return PreflightCheck("disk", "warning", f"The run writes {words}, nearly all of the {gib(free)} that are "
                              f"free on the disk of {home}.", f"{', or '.join(ways)}.")
    return PreflightCheck("disk", "ok", f"The run writes {words}; {gib(free)} are free.")


def _download(size: int, name: str, around: Surroundings) -> Iterator[PreflightCheck]:
    cache = hub_cache_dir()
    free = around.free_disk(next(path for path in (cache, *cache.parents) if path.exists()))
    if size > free:
        yield PreflightCheck("disk", "problem", f"{name} is about {gib(size)} to download, and {gib(free)} are free "
                             f"for the Hub's cache in {cache}.", "Free some, or set HF_HOME to a larger disk.")


def memory(stage: Plan, around: Surroundings) -> Iterator[PreflightCheck]:
    """Whether the run fits on a GPU that it may take, or into RAM where the CPU trains."""
    if not stage.gpus or stage.recipe.hardware.use_cpu:
        yield from _host_memory(stage, around)
        return
    if around.queued:
        yield from queued_memory(stage)
        return
    fits = _fits(stage)
    if not fits:
        return  # the plan says why it has no estimate
    order = ("fits", "tight", "unknown", "no")
    best = min(fits, key=lambda fit: order.index(fit.fit))
    peak = gib(stage.peak_bytes)
    where = f"{best.name}{f' (GPU {best.index})' if best.index is not None else ''}, with {gib(best.free_bytes)} free"
    if best.fit == "no":
        would_fit = any((gpu.total_bytes or 0) >= (stage.peak_bytes or 0) + CUDA_CONTEXT
                        for gpu in _allowed(stage))
        wait = " Or wait until it is free: --queue." if would_fit else ""
        yield PreflightCheck("memory", "problem", f"The run needs about {peak}, and does not fit on {where}.",
                             memory_fix(stage, best.free_bytes) + wait)
    elif best.fit == "tight":
        yield PreflightCheck("memory", "warning", f"The run needs about {peak}, which is tight on {where}.",
                             f"Should it run out of memory: {memory_fix(stage, best.free_bytes)}")
    elif best.fit == "fits":
        yield PreflightCheck("memory", "ok", f"The run needs about {peak}; it fits on {where}.")


def _host_memory(stage: Plan, around: Surroundings) -> Iterator[PreflightCheck]:
    if stage.architecture is None:
        return
    try:
        case = case_for(memory_case(stage.recipe, on_cpu=True), stage.recipe.tuning)
        need = estimate_memory(stage.architecture, case).peak_bytes
    except InputError:
        return
    free, total = around.free_memory(), host_snapshot().ram_total_bytes
    words = f"On the CPU the run needs about {gib(need)} of RAM, and {gib(free)} are free"
    if need > total:
        yield PreflightCheck("memory", "problem", f"{words}, of {gib(total)} in all.",
                             "A smaller batch, shorter rows, a smaller model; or a machine with a GPU.")
    elif need > free:
        yield PreflightCheck("memory", "warning", f"{words}.", "Close what else needs memory, or use a smaller batch.")
    else:
        yield PreflightCheck("memory", "ok", f"{words}.")


def _fits(stage: Plan) -> list[DeviceFit]:
    """The verdicts of the recipe's own tuning, for the GPUs that it may take."""
    columns = stage.comparison.tunings if stage.comparison else ()
    allowed = {gpu.index for gpu in _allowed(stage)}
    return [device for column in columns if column.tuning == stage.recipe.tuning for device in column.devices
            if device.device == "gpu" and device.index in allowed]


def _allowed(stage: Plan) -> list[Gpu]:
    named = stage.recipe.hardware.gpus
    return [gpu for gpu in stage.gpus if not named or is_named(gpu.index, gpu.uuid, named)]


def gpu_free(stage: Plan, around: Surroundings) -> Iterator[PreflightCheck]:
    """Whether one of its GPUs is nobody else's, and who holds them."""
    if not stage.gpus or stage.recipe.hardware.use_cpu:
        return
    allowed = _allowed(stage)
    if not allowed:
        yield PreflightCheck("gpu-free", "problem", f"None of hardware.gpus ({', '.join(stage.recipe.hardware.gpus)}) "
                             "is here.", f"There are: {', '.join(f'{g.index} ({g.name})' for g in stage.gpus)}.")
        return
    if around.queued:
        return  # it waits until one is
    held = around.processes()
    busy = {gpu.index: held[gpu.uuid] for gpu in allowed if held.get(gpu.uuid)}
    if len(busy) < len(allowed):
        yield PreflightCheck("gpu-free", "ok", f"{next(g for g in allowed if g.index not in busy).name} is free.")
        return
    index, holders = min(busy.items(), key=lambda item: sum(process.held_bytes or 0 for process in item[1]))
    yield PreflightCheck("gpu-free", "warning", f"GPU {index} is in use by {' and '.join(map(_holder, holders[:3]))}"
                         f"{f' and {len(holders) - 3} more' if len(holders) > 3 else ''}.",
                         "Both would be slower, and may run out of memory: queue the run (--queue), or end the other.")


def _holder(process: GpuProcess) -> str:
    held = gib(process.held_bytes) if process.held_bytes else "an unknown amount"
    if process.name is None:
        return f"process {process.pid} of somebody else, with {held}"
    return f"{process.name} (process {process.pid} of {process.user}), with {held}"
