"""What past runs of this machine say of the next: the band around its estimate, and tokens a second of a like one."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from workbench.engine.hardware.gpus import Gpu
from workbench.engine.memory.comparison import Comparison, Fit, TuningComparison, judge
from workbench.engine.memory.estimate import MemoryEstimate
from workbench.engine.memory.terms import CUDA_CONTEXT
from workbench.engine.recipe import Recipe
from workbench.engine.runs.history import History, PastRun, likeness

# Runs that weigh as much as the default band: the figures of one run are hardly a band.
PRIOR_RUNS = 8
_TAIL = 0.05

Band = tuple[float, float]
"""(low, high) as factors of the estimated peak; 1 lies between them."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Tokens a second that a like run did on this machine, tokens a row it had, and its id."""

    tokens_per_second: float
    tokens_per_row: float
    run_id: str


def band(history: Iterable[PastRun], device: str, default: Band) -> Band:
    """The band of the next estimate on a device: the bulk of past errors, drawn towards `default` while they are few.

    Quantiles, so that one odd run moves little; the default counts as `PRIOR_RUNS` runs. 1 stays inside: the band goes
    around the estimate, and an estimate that is always low is to be mended, not hidden.
    """
    errors = sorted(run.error for run in history if run.error is not None and run.device == device)
    if not errors:
        return default
    weight = len(errors) / (len(errors) + PRIOR_RUNS)
    low = weight * _quantile(errors, _TAIL) + (1 - weight) * default[0]
    high = weight * _quantile(errors, 1 - _TAIL) + (1 - weight) * default[1]
    return min(low, 1.0), max(high, 1.0)


def throughput(history: Iterable[PastRun], recipe: Recipe, parameters: int, dataset_fingerprint: str | None,
               device: str) -> Throughput | None:
    """Tokens a second of the newest like run on the device; None when there is none.

    Like means the same in everything that changes what a token costs: nothing is scaled from another model, batch or
    length, since how well they fill a device is not known before it is measured.
    """
    wanted = likeness(recipe.model_dump(mode="json"), parameters, dataset_fingerprint)
    for run in history:
        if run.device == device and run.likeness == wanted and run.tokens_per_second and run.tokens_per_row:
            return Throughput(run.tokens_per_second, run.tokens_per_row, run.id)
    return None


def training_seconds(like: Throughput, recipe: Recipe, steps: int | None, tokens: int | None) -> float | None:
    """Training time at the pace of a like run, samples and evaluations left out; None where its amount is not known.

    Rows of the same data have as many tokens as they had; packed rows, whose number only packing tells, go by the
    `tokens` of their texts.
    """
    if recipe.training.packing:
        return None if tokens is None else tokens / like.tokens_per_second
    return None if steps is None else steps * recipe.effective_batch_size * like.tokens_per_row / like.tokens_per_second


def calibrated(comparison: Comparison, history: History, gpus: Sequence[Gpu]) -> Comparison:
    """The comparison with this machine's bands: those of the first GPU on the estimates, each GPU's own in its fit."""
    if not gpus or not any(run.error for run in history):
        return comparison
    return Comparison(tuple(_column(column, history, gpus) for column in comparison.tunings))


def _column(column: TuningComparison, history: History, gpus: Sequence[Gpu]) -> TuningComparison:
    estimate = column.estimate
    if estimate is None or not estimate.peak_bytes:
        return column
    peak = estimate.peak_bytes
    default = (estimate.low_bytes / peak, estimate.high_bytes / peak)
    by_name = {gpu.name: band(history, gpu.name, default) for gpu in gpus}

    def widened(name: str) -> MemoryEstimate:
        low, high = by_name.get(name, default)
        return replace(estimate, low_bytes=round(low * peak), high_bytes=round(high * peak))

    devices = tuple(replace(fit, fit=judge(widened(fit.name), fit.free_bytes, CUDA_CONTEXT)) if fit.device == "gpu"
                    else fit for fit in column.devices)
    order: list[Fit] = ["fits", "tight", "no", "unknown"]
    return replace(column, estimate=widened(gpus[0].name), devices=devices,
                   fit=min((fit.fit for fit in devices), key=order.index, default=column.fit))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between the two nearest of sorted values."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
