"""One thing that a preflight looked at, and what it asks of the machine."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.engine.hardware.cgroup import memory_group
from workbench.engine.hardware.gpus import GpuProcess, gpu_processes
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.hub import HubAnswer, ask_hub

CheckId = Literal["disk", "memory", "gpu-free", "dataset", "model", "hub", "permission"]


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


def free_memory() -> int:
    """Bytes of RAM that a new process can have: what is available, within the control group's limit."""
    group = memory_group().free_bytes
    available = host_snapshot().ram_available_bytes
    return available if group is None else min(available, group)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a preflight asks the machine: by default the real one; tests give their own."""

    processes: Callable[[], dict[str, tuple[GpuProcess, ...]]] = gpu_processes
    ask_hub: Callable[[str, Literal["model", "dataset"]], HubAnswer] = ask_hub
    free_disk: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    free_memory: Callable[[], int] = free_memory
    queued: bool = False
    """The run waits until a GPU has the memory it needs."""
    own_bytes: int = 0
    """What the run holds on the disk already: a run that goes on writes in place of it."""
