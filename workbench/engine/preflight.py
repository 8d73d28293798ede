"""What would go wrong, looked at before a run starts: disk, memory, GPU, model, dataset, Hub; each with its fix."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from workbench.engine.catalog.completeness import (
    IncompleteModelError,
    check_model_files,
    refuse_code_settings,
    refuse_own_code,
)
from workbench.engine.catalog.models import ModelSource, hub_cache_dir
from workbench.engine.catalog.safetensors_file import stored_tensors
from workbench.engine.data.sources import resolve_dataset
from workbench.engine.errors import InputError
from workbench.engine.figures import gib
from workbench.engine.hardware.cgroup import memory_group
from workbench.engine.hardware.gpus import Gpu, GpuProcess, gpu_processes
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.hub import HubAnswer, ask_hub
from workbench.engine.memory.comparison import DeviceFit, case_for
from workbench.engine.memory.estimate import estimate_memory
from workbench.engine.memory.storage import DiskNeed, disk_need
from workbench.engine.paths import runs_dir
from workbench.engine.planning import Plan, memory_case
from workbench.engine.runs.artefacts import ADAPTER_WEIGHTS

CheckId = Literal["disk", "memory", "gpu-free", "dataset", "model", "hub", "permission"]
NEVER_PASSED: frozenset[str] = frozenset({"dataset", "model"})
"""Problems that no `--force` passes: what is read would be wrong, or its code would run."""
_TIGHT = 0.9
"""Of the free disk: what fills more than this is worth a warning, for a run is not alone on it."""
_SETTINGS = (".json", ".jinja", ".model", ".txt")
_PUBLISHED_WIDTH = 2  # bytes a number, in which nearly all models are published (bfloat16)


@dataclass(frozen=True, slots=True)
class PreflightCheck:
    """One thing looked at: a sentence, and what to do about it where it is not well."""

    id: CheckId
    status: Literal["ok", "warning", "problem"]
    message: str
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As `workbench plan --json` lists it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a preflight asks the machine: by default the real one; tests give their own."""

    processes: Callable[[], dict[str, tuple[GpuProcess, ...]]] = gpu_processes
    ask_hub: Callable[[str, Literal["model", "dataset"]], HubAnswer] = ask_hub
    free_disk: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    free_memory: Callable[[], int] = lambda: free_memory()


def preflight(plan: Plan, base_dir: Path | None, around: Surroundings | None = None) -> tuple[PreflightCheck, ...]:
    """Look at everything a planned run needs; of a pipeline at what any stage does. Never raises for what the user can
    mend. Reads headers, and may ask the Hub for some seconds: not for an event loop."""
    around = around or Surroundings()
    found: list[PreflightCheck] = [_permission()]
    stages = plan.stages or (plan,)
    found += _disk(stages, around)
    for number, stage in enumerate(stages):
        later = number > 0 and stage.recipe.model == stages[0].recipe.model
        checks = [*_memory(stage, around), *_gpu_free(stage, around), *_dataset(stage, base_dir, around),
                  *(() if later else _model(stage, around))]
        found += [replace(check, message=f"Stage {number + 1}: {check.message}") if plan.stages and number else check
                  for check in checks]
    seen: dict[tuple[str, str], PreflightCheck] = {}
    for check in found:
        seen.setdefault((check.id, check.message), check)
    return tuple(seen.values())


def problems_of(checks: Iterable[PreflightCheck], force: bool = False) -> list[PreflightCheck]:
    """What keeps the run from starting; with `force` only what must never be passed."""
    return [check for check in checks if check.status == "problem" and (not force or check.id in NEVER_PASSED)]


def free_memory() -> int:
    """Bytes of RAM that a new process can have: what is available, within the control group's limit."""
    group = memory_group().free_bytes
    available = host_snapshot().ram_available_bytes
    return available if group is None else min(available, group)


def _permission() -> PreflightCheck:
    home = runs_dir()
    existing = next(path for path in (home, *home.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return PreflightCheck("permission", "ok", f"Runs can be written to {home}.")
    except OSError as error:
        return PreflightCheck("permission", "problem", f"{existing} cannot be written: {error.strerror}.",
                              "Point WORKBENCH_HOME to a folder that can.")


def _disk(stages: tuple[Plan, ...], around: Surroundings) -> Iterator[PreflightCheck]:
    home = runs_dir()
    existing = next(path for path in (home, *home.parents) if path.exists())
    free, needs = around.free_disk(existing), [need for stage in stages if (need := _need(stage)) is not None]
    if len(needs) < len(stages):
        yield PreflightCheck("disk", "warning", f"How much the run will write is not known; {gib(free)} are free on "
                             f"the disk of {home}.")
    if needs:
        yield _disk_check(needs, free, home)
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


def _disk_check(needs: list[DiskNeed], free: int, home: Path) -> PreflightCheck:
    total = sum(need.total for need in needs)
    largest = max(needs, key=lambda need: need.total)
    many = f"up to {largest.kept} checkpoints" if largest.kept > 1 else "a checkpoint"
    each = ", and as much at the most for each other stage" if len(needs) > 1 else ""
    words = f"about {gib(total)}: {many} of {gib(largest.checkpoint)} and a result of {gib(largest.result)}{each}"
    if total > free:
        return PreflightCheck("disk", "problem", f"The run writes {words}, and {gib(free)} are free on the disk of "
                              f"{home}.", "Free some, keep fewer (training.save_total_limit), save adapters only "
                              "(tuning: lora), or point WORKBENCH_HOME to a larger disk.")
    if total > _TIGHT * free:
        return PreflightCheck("disk", "warning", f"The run writes {words}, nearly all of the {gib(free)} that are "
                              f"free on the disk of {home}.", "Free some, or keep fewer (training.save_total_limit).")
    return PreflightCheck("disk", "ok", f"The run writes {words}; {gib(free)} are free.")


def _download(size: int, name: str, around: Surroundings) -> Iterator[PreflightCheck]:
    cache = hub_cache_dir()
    free = around.free_disk(next(path for path in (cache, *cache.parents) if path.exists()))
    if size > free:
        yield PreflightCheck("disk", "problem", f"{name} is about {gib(size)} to download, and {gib(free)} are free "
                             f"for the Hub's cache in {cache}.", "Free some, or set HF_HOME to a larger disk.")


def _memory(stage: Plan, around: Surroundings) -> Iterator[PreflightCheck]:
    if not stage.gpus or stage.recipe.hardware.use_cpu:
        yield from _host_memory(stage, around)
        return
    fits = _fits(stage)
    if not fits:
        return  # the plan says why it has no estimate
    order = ("fits", "tight", "unknown", "no")
    best = min(fits, key=lambda fit: order.index(fit.fit))
    peak = gib(stage.peak_bytes)
    where = f"{best.name}{f' (GPU {best.index})' if best.index is not None else ''}, with {gib(best.free_bytes)} free"
    mend = stage.suggestions[0].words if stage.suggestions else "A smaller batch, shorter rows, or tuning: qlora"
    if best.fit == "no":
        yield PreflightCheck("memory", "problem", f"The run needs about {peak}, and does not fit on {where}.",
                             f"{mend}: see `workbench plan`.")
    elif best.fit == "tight":
        yield PreflightCheck("memory", "warning", f"The run needs about {peak}, which is tight on {where}.",
                             f"{mend}, should it run out of memory.")
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
    return [gpu for gpu in stage.gpus if not named or str(gpu.index) in named or gpu.uuid in named]


def _gpu_free(stage: Plan, around: Surroundings) -> Iterator[PreflightCheck]:
    if not stage.gpus or stage.recipe.hardware.use_cpu:
        return
    allowed = _allowed(stage)
    if not allowed:
        yield PreflightCheck("gpu-free", "problem", f"None of hardware.gpus ({', '.join(stage.recipe.hardware.gpus)}) "
                             "is here.", f"There are: {', '.join(f'{g.index} ({g.name})' for g in stage.gpus)}.")
        return
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


def _dataset(stage: Plan, base_dir: Path | None, around: Surroundings) -> Iterator[PreflightCheck]:
    wrong = [problem for problem in stage.problems if problem.field.startswith(("dataset", "data."))]
    for problem in wrong:
        yield PreflightCheck("dataset", "problem", problem.message, problem.hint)
    if wrong:
        return
    settings = stage.recipe.dataset
    references = [part.path for part in settings.parts] + ([settings.eval_path] if settings.eval_path else [])
    for reference in dict.fromkeys(references):
        try:
            source = resolve_dataset(reference, base_dir)
        except InputError as error:
            yield PreflightCheck("dataset", "problem", error.message, error.hint)
            continue
        if source.kind == "hub":
            yield _hub_check(around.ask_hub(source.name, "dataset"), may_be_cached=True)
        else:
            yield PreflightCheck("dataset", "ok", f"{source.name} can be read.")


def _hub_check(answer: HubAnswer, may_be_cached: bool = False) -> PreflightCheck:
    """A dataset that was downloaded before lies in a cache that only its library can read: no problem before that."""
    if answer.status == "ok":
        return PreflightCheck("hub", "ok", answer.message)
    unsure = may_be_cached and answer.status in ("offline", "busy", "unreachable")
    return PreflightCheck("hub", "warning" if unsure else "problem", answer.message, answer.fix)


def _model(stage: Plan, around: Surroundings) -> Iterator[PreflightCheck]:
    for problem in (one for one in stage.problems if one.field == "model"):
        yield PreflightCheck("model", "problem", problem.message, problem.hint)
    if (source := stage.model) is None:
        return
    try:
        yield from _model_files(source, around)
    except InputError as error:
        yield PreflightCheck("model", "problem", error.message, error.hint)


def _model_files(source: ModelSource, around: Surroundings) -> Iterator[PreflightCheck]:
    """Raises InputError."""
    refuse_code_settings(source.config, source.name)
    if source.adapter is not None:
        refuse_own_code(source.adapter, source.label)
        stored_tensors(source.adapter / ADAPTER_WEIGHTS)
    if source.path is None:
        yield _hub_check(around.ask_hub(source.name, "model"))
        return
    try:
        found = check_model_files(source.path, source.name)
    except IncompleteModelError as error:
        if source.kind != "cache":
            raise
        answer = around.ask_hub(source.name, "model")
        if answer.status != "ok":
            raise InputError(error.message, answer.fix) from None
        yield PreflightCheck("hub", "ok", f"{error.message} The rest is downloaded when the run starts.")
        return
    unhashed = f"; {gib(found.unhashed_bytes)} are too much to be compared with their hashes now" \
        if found.unhashed_bytes else ""
    yield PreflightCheck("model", "ok", f"{source.label} is complete: {found.tensors} tensors, "
                         f"{gib(found.weight_bytes)}, in {len(found.files)} file{'s'[:len(found.files) != 1]}"
                         f"{unhashed}.")
