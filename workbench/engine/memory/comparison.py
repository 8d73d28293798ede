"""Full, LoRA and QLoRA side by side, judged against the memory that is free right now."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.errors import InputError
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.memory.estimate import MemoryCase, MemoryEstimate, TuningName, estimate_memory
from workbench.engine.memory.terms import CUDA_CONTEXT

Fit = Literal["fits", "tight", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class DeviceFit:
    """The verdict for one device. `device` is "gpu" or "host": the host is judged only where there is no GPU.

    fits: the upper end of the band still fits. tight: the predicted peak fits, the band does not.
    unknown: the device does not say how much memory is free.
    `largest_batch` (rows) and `longest_max_length` (tokens) are the most that would fit, each with all else as it is;
    None where not even 1 fits or it is not known.
    """

    device: Literal["gpu", "host"]
    index: int | None
    name: str
    free_bytes: int | None
    fit: Fit
    largest_batch: int | None = None
    longest_max_length: int | None = None


@dataclass(frozen=True, slots=True)
class TuningComparison:
    """One column of the comparison. Where `estimate` is None, `problem` says in one sentence why.

    `fit` is the best verdict over the GPUs: unknown without a GPU, whatever the host can hold.
    """

    tuning: TuningName
    estimate: MemoryEstimate | None
    fit: Fit
    devices: tuple[DeviceFit, ...]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The three tunings of one case, in the order full, lora, qlora."""

    tunings: tuple[TuningComparison, ...]

    def __getitem__(self, tuning: TuningName) -> TuningComparison:
        return next(column for column in self.tunings if column.tuning == tuning)


def compare_tunings(
    architecture: Architecture, case: MemoryCase, gpus: Sequence[Gpu], host_available_bytes: int | None = None
) -> Comparison:
    """Estimate the case under each tuning and judge it against each GPU, or the host's RAM when there is no GPU."""
    tunings: tuple[TuningName, ...] = get_args(TuningName)
    return Comparison(
        tuple(_column(architecture, case_for(case, tuning), gpus, host_available_bytes) for tuning in tunings)
    )


def case_for(case: MemoryCase, tuning: TuningName) -> MemoryCase:
    """The same case under another tuning: only QLoRA quantises the base."""
    if tuning == "qlora":
        quantization = "nf4-double" if case.quantization == "none" else case.quantization
        return replace(case, tuning=tuning, quantization=quantization)
    return replace(case, tuning=tuning, quantization="none", prepare_for_kbit=False)


def judge(estimate: MemoryEstimate, free_bytes: int | None, beyond_allocator: int) -> Fit:
    """Whether an estimate fits into `free_bytes`, with `beyond_allocator` bytes that no allocator counts."""
    if free_bytes is None:
        return "unknown"
    if estimate.high_bytes + beyond_allocator <= free_bytes:
        return "fits"
    return "tight" if estimate.peak_bytes + beyond_allocator <= free_bytes else "no"


def _column(
    architecture: Architecture, case: MemoryCase, gpus: Sequence[Gpu], host_bytes: int | None
) -> TuningComparison:
    try:
        estimate = estimate_memory(architecture, case)
    except InputError as error:
        return TuningComparison(case.tuning, None, "unknown", (), error.message)
    devices = tuple(
        DeviceFit("gpu", gpu.index, gpu.name, gpu.free_bytes, judge(estimate, gpu.free_bytes, CUDA_CONTEXT))
        for gpu in gpus
    )
    if not gpus:
        host = DeviceFit("host", None, "host RAM", host_bytes, judge(estimate, host_bytes, 0))
        return TuningComparison(case.tuning, estimate, "unknown", (host,))
    order: list[Fit] = ["fits", "tight", "no", "unknown"]
    return TuningComparison(case.tuning, estimate, min((d.fit for d in devices), key=order.index), devices)
