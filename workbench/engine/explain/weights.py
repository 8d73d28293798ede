"""Quantisation seen on real weights: a histogram, the blocks' scales, and what each method loses."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from workbench.engine.explain.document import Bars, Section, Table, percent, signed
from workbench.engine.explain.quantization import BLOCK, Quantised, nf4, symmetric
from workbench.engine.explain.tensors import MatrixSample, middle_matrix, read_sample

_BINS = 13
_SPREAD = 3.0
"""The histogram reaches so many standard deviations to either side; its end bins take in what lies beyond."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What one method loses on a sample: errors relative to the weights' own root mean square."""

    method: str
    bits: float
    """Bits a weight, scales included."""
    rms_error: float
    largest_error: float


@dataclass(frozen=True, slots=True)
class WeightStudy:
    """A sample of a real matrix. `scales` are its blocks' largest magnitudes, `codes` how often NF4 uses each code."""

    sample: MatrixSample
    numbers: int
    rms: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    scales: tuple[float, ...]
    codes: tuple[int, ...]
    losses: tuple[Loss, ...]


def study_weights(folder: Path) -> WeightStudy:
    """Look at one matrix of a model folder. Raises InputError when its weights cannot be read."""
    sample = read_sample(middle_matrix(folder))
    values = [value for row in sample.rows for value in row]
    blocks = [row[start:start + BLOCK] for row in sample.rows for start in range(0, len(row), BLOCK)]
    rms = sqrt(sum(value * value for value in values) / len(values))
    normal = [nf4(block) for block in blocks]
    used = Counter(code for block in normal for code in block.codes)
    edges = tuple(rms * _SPREAD * (2 * i / _BINS - 1) for i in range(1, _BINS))
    bins = Counter(bisect_right(edges, value) for value in values)
    return WeightStudy(
        sample=sample, numbers=len(values), rms=rms, edges=edges, counts=tuple(bins[i] for i in range(_BINS)),
        scales=tuple(block.scale for block in normal), codes=tuple(used[code] for code in range(16)),
        losses=(
            # One fp32 scale a row (LLM.int8) or a block (4 bits): what bitsandbytes stores without double quantisation.
            _loss("8-bit, a scale a row", 8 + 32 / sample.matrix.columns, [symmetric(r, 8) for r in sample.rows], rms),
            _loss("4-bit uniform, blocks", 4 + 32 / BLOCK, [symmetric(block, 4) for block in blocks], rms),
            _loss("NF4, blocks", 4 + 32 / BLOCK, normal, rms)))


def weights_section(study: WeightStudy) -> Section:
    """The study in a few lines, a histogram and a table."""
    matrix = study.sample.matrix
    low, _, high = quantiles(study.scales, n=4) if len(study.scales) > 1 else study.scales * 3
    edge = study.rms * _SPREAD
    labels = tuple(signed((2 * i + 1 - _BINS) / _BINS * edge) for i in range(_BINS))
    rows = tuple((loss.method, f"{loss.bits:.2f}", percent(loss.rms_error), percent(loss.largest_error))
                 for loss in study.losses)
    uniform_loss, nf4_loss = study.losses[1].rms_error, study.losses[2].rms_error
    verdict = f"NF4 loses {nf4_loss / uniform_loss:.2f} times what uniform 4-bit loses here." if uniform_loss else ""
    return Section("On this model's own weights", (
        f"{matrix.name}, {matrix.rows}×{matrix.columns} in {matrix.dtype}: {study.numbers:,} of its "
        f"{matrix.rows * matrix.columns:,} numbers, in {len(study.sample.rows):,} whole rows.",
        Bars(labels, study.counts),
        f"Blocks of {BLOCK} have a scale each: {median(study.scales):.4f} in the middle, half of them from {low:.4f} "
        f"to {high:.4f}, the largest {max(study.scales):.4f}. One outlier costs its own block, not the matrix.",
        Table(("METHOD", "BITS/WEIGHT", "RMS ERROR", "LARGEST ERROR"), rows, (1, 2, 3)),
        f"Errors are relative to the weights' root mean square, {study.rms:.4f}. {verdict}".rstrip(),
    ))


def weights_figures(study: WeightStudy) -> dict[str, Any]:
    """The numbers behind `weights_section`."""
    matrix = study.sample.matrix
    return {
        "tensor": matrix.name, "shape": [matrix.rows, matrix.columns], "dtype": matrix.dtype, "numbers": study.numbers,
        "rms": study.rms, "histogram": {"edges": list(study.edges), "counts": list(study.counts)},
        "block_scales": {"blocks": len(study.scales), "median": median(study.scales), "max": max(study.scales)},
        "nf4_code_counts": list(study.codes),
        "errors": [{"method": loss.method, "bits": loss.bits, "rms_error": loss.rms_error,
                    "largest_error": loss.largest_error} for loss in study.losses],
    }


def _loss(method: str, bits: float, parts: Sequence[Quantised], rms: float) -> Loss:
    squares = sum(error * error for part in parts for error in part.errors)
    count = sum(len(part.values) for part in parts)
    unit = rms or 1.0
    return Loss(method, bits, sqrt(squares / count) / unit, max(part.largest_error for part in parts) / unit)
