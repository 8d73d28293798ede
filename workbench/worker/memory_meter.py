"""Peak memory by phase: what CUDA's allocator counted, or the process's resident memory where there is no GPU."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class Peak:
    """The most memory at one time, in bytes. On CUDA `allocated` by tensors and `reserved` from the driver; elsewhere
    `resident` memory of the whole process, libraries and all, which is not to be compared with an estimate."""

    allocated: int | None = None
    reserved: int | None = None
    resident: int | None = None

    def to_json(self) -> dict[str, int]:
        """The figures there are, by name."""
        figures = {"allocated": self.allocated, "reserved": self.reserved, "resident": self.resident}
        return {name: value for name, value in figures.items() if value is not None}


class MemoryMeter:
    """Measures phases of work on one device. A phase that is measured twice keeps its larger figures."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.current = ""
        """The phase that runs, or ran last."""
        self.phases: dict[str, Peak] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what happens inside. Nothing is recorded when it raises."""
        self.current = name
        reset_peak(self._device)
        yield
        self.phases[name] = _larger(self.phases.get(name, Peak()), read_peak(self._device))

    @property
    def peak(self) -> Peak:
        """The largest figures of all phases."""
        whole = Peak()
        for peak in self.phases.values():
            whole = _larger(whole, peak)
        return whole


def read_peak(device: torch.device) -> Peak:
    """The most memory since `reset_peak`."""
    if device.type == "cuda":
        return Peak(torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device))
    return Peak(resident=_resident_peak())


def reset_peak(device: torch.device) -> None:
    """Count peaks from here on."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # not Linux, or not allowed: see _resident_peak
        _CLEAR_REFS.write_text("5")  # proc(5): resets the peak of the resident set


def release(device: torch.device) -> None:
    """Give back what nobody uses, and count peaks from here on."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    reset_peak(device)


def _resident_peak() -> int:
    """The peak of the resident set where the kernel keeps one that can be reset; elsewhere what is resident now."""
    now: int = psutil.Process().memory_info().rss
    if not _CLEAR_REFS.exists():
        return now
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return max(int(line.split()[1]) * 1024, now)
    return now


def _larger(one: Peak, other: Peak) -> Peak:
    def largest(a: int | None, b: int | None) -> int | None:
        return b if a is None else a if b is None else max(a, b)

    return Peak(largest(one.allocated, other.allocated), largest(one.reserved, other.reserved),
                largest(one.resident, other.resident))
