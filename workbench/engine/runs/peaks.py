"""A run's peak memory, told four times: estimated, rehearsed, probed and measured in training, side by side."""

from dataclasses import dataclass

from workbench.engine.figures import gib
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.state import RunState
from workbench.engine.runs.store import read_json


@dataclass(frozen=True, slots=True)
class MemoryPeaks:
    """Peaks in bytes, None where not known. Predictions are of CUDA's `max_memory_allocated`.

    `estimated_peak` is for rows of `max_length`, `estimated_probe` for the longest rows there are, which the probe
    tried. On a CPU the resident memory of the whole process stands for what is measured: `probed_resident`, `resident`.
    """

    estimated_peak: int | None = None
    rehearsed_peak: int | None = None
    probed_allocated: int | None = None
    probed_reserved: int | None = None
    probed_resident: int | None = None
    estimated_probe: int | None = None
    measured_allocated: int | None = None
    measured_reserved: int | None = None
    resident: int | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether what was measured is resident memory."""
        return self.probed_allocated is None and self.measured_allocated is None \
            and (self.probed_resident is not None or self.resident is not None)


def estimated_peak(run: RunDirectory) -> int | None:
    """The estimate at launch, in bytes; None when there was none."""
    plan = read_json(run.plan).get("plan") or {}
    estimate = (plan.get("tunings") or {}).get(plan.get("tuning")) or {}
    peak = estimate.get("peak_bytes")
    return peak if isinstance(peak, int) else None


def memory_peaks(state: RunState, estimate: int | None) -> MemoryPeaks:
    """What is known so far; `estimate` is the one at launch, in bytes."""
    probed = state.probed
    return MemoryPeaks(
        estimated_peak=estimate, rehearsed_peak=state.rehearsed_peak,
        probed_allocated=probed.allocated if probed else None, probed_reserved=probed.reserved if probed else None,
        probed_resident=probed.resident if probed else None, estimated_probe=probed.estimated if probed else None,
        measured_allocated=_bytes(state, "memory/peak_allocated"),
        measured_reserved=_bytes(state, "memory/peak_reserved"), resident=_bytes(state, "memory/resident"))


def columns(peaks: MemoryPeaks) -> tuple[tuple[str, int | None], ...]:
    """The four figures as they stand side by side: label, bytes. On a CPU the labels say what is compared."""
    if peaks.on_cpu:
        return (("GPU est.", peaks.estimated_peak), ("rehearsal", peaks.rehearsed_peak),
                ("probe RAM", peaks.probed_resident), ("train RAM", peaks.resident))
    return (("estimate", peaks.estimated_peak), ("rehearsal", peaks.rehearsed_peak),
            ("probe", peaks.probed_allocated), ("training", peaks.measured_allocated))


def short_rows(peaks: MemoryPeaks, state: RunState) -> str:
    """Why the probe found less than was estimated, where the longest rows are shorter than `max_length`; else empty."""
    if state.probed is None or peaks.estimated_probe is None or peaks.estimated_probe == peaks.estimated_peak:
        return ""
    return f"longest rows {state.probed.tokens:,} tokens: est. {gib(peaks.estimated_probe)}"


def reserved(peaks: MemoryPeaks) -> str:
    """What the allocator holds from the driver at the peak, free pieces and all; empty where it is not known."""
    held = peaks.measured_reserved if peaks.measured_reserved is not None else peaks.probed_reserved
    return "" if held is None else f"{gib(held)} reserved"


def peaks_line(peaks: MemoryPeaks, state: RunState) -> str:
    """All of it in one plain line; empty before any figure is known."""
    known = [f"{label} {gib(value, 2)}" for label, value in columns(peaks) if value is not None]
    if not known:
        return ""
    remarks = [remark for remark in (reserved(peaks), short_rows(peaks, state)) if remark]
    return f"peak memory: {' · '.join(known)}" + (f" ({'; '.join(remarks)})" if remarks else "")


def _bytes(state: RunState, metric: str) -> int | None:
    value = state.last(metric)
    return None if value is None or value != value else int(value)
