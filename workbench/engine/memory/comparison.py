"""Full, LoRA and QLoRA side by side, judged against the memory that is free right now."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.errors import InputError
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.memory.estimate import Estimator, MemoryCase, MemoryEstimate, TuningName
from workbench.engine.memory.fitting import MOST_TOKENS, batch_search, length_search
from workbench.engine.memory.terms import CUDA_CONTEXT

Fit = Literal["fits", "tight", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class DeviceFit:
    """The verdict for one device. `device` is "gpu" or "host": the host is judged only where there is no GPU.

    fits: the upper end of the band still fits. tight: the predicted peak fits, the band does not.
    unknown: the device does not say how much memory is free.
    `largest_batch` (rows a micro-batch) and `longest_max_length` (tokens) are the most that still fits, the other kept
    as it is; None where not even 1 does, where the memory is unknown, and for the host.
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
    architecture: Architecture, case: MemoryCase, gpus: Sequence[Gpu], host_available_bytes: int | None = None,
    longest: int = MOST_TOKENS,
) -> Comparison:
    """Estimate the case under each tuning and judge it against each GPU, or the host's RAM when there is no GPU.

    `longest` is the model's own limit of tokens in a row.
    """
    tunings: tuple[TuningName, ...] = get_args(TuningName)
    return Comparison(tuple(
        _column(architecture, case_for(case, tuning), gpus, host_available_bytes, longest) for tuning in tunings
    ))


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
    architecture: Architecture, case: MemoryCase, gpus: Sequence[Gpu], host_bytes: int | None, longest: int
) -> TuningComparison:
    try:
        estimator = Estimator(architecture, case)
        estimate = estimator.at(case.per_device_train_batch_size, case.max_length)
    except InputError as error:
        problem = f"{error.message} {error.hint}" if error.hint else error.message
        return TuningComparison(case.tuning, None, "unknown", (), problem)
    if not gpus:
        host = DeviceFit("host", None, "host RAM", host_bytes, judge(estimate, host_bytes, 0))
        return TuningComparison(case.tuning, estimate, "unknown", (host,))
    batches, lengths = batch_search(estimator), length_search(estimator, longest)
    # Cards of one kind with about the same memory free are common: ask once for each budget.
    most: dict[int | None, tuple[int | None, int | None]] = {None: (None, None)}
    for free in {gpu.free_bytes for gpu in gpus if gpu.free_bytes is not None}:
        budget = free - CUDA_CONTEXT
        most[free] = batches.largest(budget), lengths.largest(budget)
    devices = tuple(
        DeviceFit("gpu", gpu.index, gpu.name, gpu.free_bytes, judge(estimate, gpu.free_bytes, CUDA_CONTEXT),
                  *most[gpu.free_bytes])
        for gpu in gpus
    )
    order: list[Fit] = ["fits", "tight", "no", "unknown"]
    return TuningComparison(case.tuning, estimate, min((d.fit for d in devices), key=order.index), devices)
