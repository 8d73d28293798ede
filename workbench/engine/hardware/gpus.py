"""The GPUs of this machine, read through NVML: what they are and how much memory is free right now."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Memory in bytes, `utilization` in per cent, `temperature` in °C; None where the driver does not say."""

    index: int
    uuid: str
    name: str
    total_bytes: int | None
    free_bytes: int | None
    used_bytes: int | None
    utilization: int | None
    temperature: int | None
    power_watts: float | None


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory on a GPU. `held_bytes` is None where the driver does not say, `name` and `user` where
    the process is not to be seen: another container's, or another user's."""

    pid: int
    held_bytes: int | None
    name: str | None
    user: str | None


def list_gpus(nvml: Any | None = None) -> list[Gpu]:
    """Every GPU that NVML lists. No driver or no library gives an empty list, never an exception.

    `nvml` stands for the `pynvml` module; tests give their own.
    """
    library = nvml if nvml is not None else _import_pynvml()
    if library is None:
        return []
    try:
        library.nvmlInit()
    except Exception:  # pynvml raises one class per driver fault, and OSError where the library is broken
        return []
    try:
        count = _ask(library.nvmlDeviceGetCount) or 0
        gpus = (_read(library, index) for index in range(count))
        return [gpu for gpu in gpus if gpu is not None]
    finally:
        _ask(library.nvmlShutdown)


def is_named(index: int, uuid: str, names: Iterable[str]) -> bool:
    """Whether a GPU is among those named by index or UUID; the beginning of a UUID will do, as CUDA takes it too."""
    return any(name == str(index) or (name.startswith("GPU-") and uuid.startswith(name)) for name in names)


def visible(gpus: Sequence[Gpu], environment: Mapping[str, str] = os.environ) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to this process (a cluster's scheduler sets it); all where it is unset.

    Numbers are taken as NVML counts, which is CUDA's order where all GPUs are alike. A part of a GPU (`MIG-…`), which
    is not among those listed, is one whose memory is not known.
    """
    allowed = environment.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return list(gpus)
    names = [name.strip() for name in allowed.split(",")]
    parts = [Gpu(number, name, "MIG", None, None, None, None, None, None)
             for number, name in enumerate(names) if name.startswith("MIG-")]
    return [*(gpu for gpu in gpus if is_named(gpu.index, gpu.uuid, names)), *parts]


def gpu_processes(nvml: Any | None = None) -> dict[str, tuple[GpuProcess, ...]]:
    """Who computes on each GPU, by its UUID, the largest first. Never raises; empty where NVML does not say."""
    library = nvml if nvml is not None else _import_pynvml()
    if library is None:
        return {}
    try:
        library.nvmlInit()
    except Exception:  # see list_gpus
        return {}
    try:
        return dict(_processes(library, index) for index in range(_ask(library.nvmlDeviceGetCount) or 0))
    finally:
        _ask(library.nvmlShutdown)


def _processes(nvml: Any, index: int) -> tuple[str, tuple[GpuProcess, ...]]:
    handle = _ask(nvml.nvmlDeviceGetHandleByIndex, index)
    uuid = _text(_ask(nvml.nvmlDeviceGetUUID, handle)) or f"index-{index}"
    found = [_process(entry) for entry in _ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()]
    return uuid, tuple(sorted(found, key=lambda process: -(process.held_bytes or 0)))


def _process(entry: Any) -> GpuProcess:
    import psutil

    held = getattr(entry, "usedGpuMemory", None)
    try:
        seen = psutil.Process(int(entry.pid))
        who = seen.name(), seen.username()
    except psutil.Error:
        return GpuProcess(int(entry.pid), int(held) if held else None, None, None)
    return GpuProcess(int(entry.pid), int(held) if held else None, *who)


def _import_pynvml() -> Any | None:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _read(nvml: Any, index: int) -> Gpu | None:
    """One GPU; None when it fell off the bus between the count and now."""
    handle = _ask(nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return None
    memory = _ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    rates = _ask(nvml.nvmlDeviceGetUtilizationRates, handle)
    milliwatts = _ask(nvml.nvmlDeviceGetPowerUsage, handle)
    return Gpu(
        index=index,
        uuid=_text(_ask(nvml.nvmlDeviceGetUUID, handle)) or f"index-{index}",
        name=_text(_ask(nvml.nvmlDeviceGetName, handle)) or "GPU",
        total_bytes=int(memory.total) if memory else None,
        free_bytes=int(memory.free) if memory else None,
        used_bytes=int(memory.used) if memory else None,
        utilization=int(rates.gpu) if rates else None,
        temperature=_ask(nvml.nvmlDeviceGetTemperature, handle, getattr(nvml, "NVML_TEMPERATURE_GPU", 0)),
        power_watts=milliwatts / 1000 if milliwatts is not None else None,
    )


def _ask(function: Callable[..., Any], *arguments: Any) -> Any | None:
    """The answer, or None: any single figure may be unsupported (vGPU, MIG, laptops)."""
    try:
        return function(*arguments)
    except Exception:  # see list_gpus
        return None


def _text(value: object) -> str:
    """Older pynvml returns bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
