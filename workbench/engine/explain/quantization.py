"""Quantisation's arithmetic: uniform 8 and 4 bits, and NF4, on a handful of values or block by block."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.explain.document import Section, Table, percent, plain, signed
from workbench.engine.figures import GIB
from workbench.engine.memory.case import MemoryCase, precision_of
from workbench.engine.memory.terms import base_weights

EXAMPLE = (0.12, 0.57, -0.89, 1.34)
"""Four weights that fill their range unevenly, as real ones do."""

# The NormalFloat code book: quantiles of a normal distribution scaled to [-1, 1], with an exact zero. Dettmers et al.,
# "QLoRA" (arXiv 2305.14314), appendix E; the digits are those that bitsandbytes computes with
# (functional.get_4bit_type).
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)
_BOUNDARIES = tuple((low + high) / 2 for low, high in pairwise(NF4))
BLOCK = 64
"""Weights that share one scale: bitsandbytes' block size for 4 bits."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """Values and what is left of them: `restored[i]` = `offset` + `scale` · (the number that `codes[i]` stands for)."""

    method: str
    bits: int
    scale: float
    offset: float
    values: tuple[float, ...]
    codes: tuple[int, ...]
    restored: tuple[float, ...]

    @property
    def errors(self) -> tuple[float, ...]:
        """Restored minus true value, one by one."""
        return tuple(after - before for before, after in zip(self.values, self.restored, strict=True))

    @property
    def largest_error(self) -> float:
        """The largest error, without its sign."""
        return max(map(abs, self.errors))


def uniform(values: Sequence[float], bits: int) -> Quantised:
    """Evenly spaced codes 0 … 2^bits − 1 from the smallest value to the largest."""
    low, high = min(values), max(values)
    scale = (high - low) / (2**bits - 1)
    codes = tuple(round((value - low) / scale) if scale else 0 for value in values)
    return Quantised(f"{bits}-bit uniform", bits, scale, low, tuple(values), codes,
                     tuple(low + scale * code for code in codes))


def symmetric(values: Sequence[float], bits: int) -> Quantised:
    """Signed codes either side of an exact zero, one scale: the largest magnitude / (2^(bits−1) − 1).

    With 8 bits and a row at a time this is LLM.int8 (bitsandbytes functional.int8_vectorwise_quant).
    """
    scale = max(map(abs, values)) / (2 ** (bits - 1) - 1)
    codes = tuple(round(value / scale) if scale else 0 for value in values)
    return Quantised(f"{bits}-bit symmetric", bits, scale, 0.0, tuple(values), codes,
                     tuple(scale * code for code in codes))


def nf4(values: Sequence[float]) -> Quantised:
    """NF4 with one scale for all values, the largest magnitude among them: codes are places in the code book."""
    scale = max(map(abs, values))
    codes = tuple(bisect_left(_BOUNDARIES, value / scale) if scale else NF4.index(0.0) for value in values)
    return Quantised("NF4", 4, scale, 0.0, tuple(values), codes, tuple(scale * NF4[code] for code in codes))


def example_sections() -> list[Section]:
    """The four values under each method, every figure worked out."""
    eight, four, normal = uniform(EXAMPLE, 8), uniform(EXAMPLE, 4), nf4(EXAMPLE)
    low, high = min(EXAMPLE), max(EXAMPLE)
    span = high - low
    book = tuple(tuple(f"{i + j:>2} {signed(NF4[i + j]):>7}" for j in (0, 4, 8, 12)) for i in range(4))
    return [
        Section("8 bits, uniform", (
            f"The values {', '.join(map(plain, EXAMPLE))} span {plain(high)} − ({plain(low)}) = {span:.4g}. {2**8} "
            f"codes cut that into {2**8 - 1} steps: scale = {span:.4g} / {2**8 - 1} = {eight.scale:.5f}. "
            f"code = round((value − ({plain(low)})) / scale); back: code · scale + ({plain(low)}).",
            _worked(eight))),
        Section("4 bits, uniform", (
            f"{2**4} codes, {2**4 - 1} steps: scale = {span:.4g} / {2**4 - 1} = {four.scale:.5f}, "
            f"{four.scale / eight.scale:.0f} times as coarse.", _worked(four))),
        Section("4 bits, NF4", (
            "Weights crowd around zero, so NF4's 16 numbers do too: each stands for about as many weights of a normal "
            "distribution. The code book (QLoRA, arXiv 2305.14314, appendix E; as bitsandbytes holds it):",
            Table(("CODE", "", "", ""), book),
            f"scale = the largest magnitude = {normal.scale:g}; code = the place of the number nearest value / scale.",
            _worked(normal))),
    ]


def example_figures() -> dict[str, Any]:
    """The numbers behind `example_sections`."""
    found = (uniform(EXAMPLE, 8), uniform(EXAMPLE, 4), nf4(EXAMPLE))
    return {"range": max(EXAMPLE) - min(EXAMPLE), "block": BLOCK, "nf4_code_book": list(NF4),
            "example": [{**asdict(one), "errors": list(one.errors)} for one in found]}


def base_bytes(architecture: Architecture) -> dict[str, float]:
    """Bytes of the frozen base by how its linear layers are held, in `quantization`'s names; `none` is 16 bits."""
    held = {}
    for kind in ("none", "int8", "nf4", "nf4-double"):
        case = MemoryCase(tuning="lora" if kind == "none" else "qlora", quantization=kind)
        weights = base_weights(architecture, case, precision_of(case))
        held[kind] = weights.sharded + weights.whole
    return held


def base_section(architecture: Architecture, name: str) -> Section:
    """What quantisation makes of a model's weights: the same numbers in fewer bits."""
    titles = {"none": "16 bits", "int8": "8 bits (LLM.int8)", "nf4": "NF4", "nf4-double": "NF4, double"}
    held = base_bytes(architecture)
    linears = architecture.block_linear_parameters
    kept = (architecture.parameters - linears) * 2
    rows = tuple((titles[kind], f"{architecture.parameters:,}", f"{(size - kept) * 8 / linears:.2f}", _size(size),
                  percent(round(size / held["none"], 2))) for kind, size in held.items())
    return Section(f"The base of {name}", (
        "What is quantised is the frozen base, not the new weights; the number of parameters stays, the bits shrink. "
        "Adapters are trained in 16 or 32 bits beside it, and each layer is unpacked for its product.",
        Table(("HELD AS", "PARAMETERS", "BITS", "BYTES", "OF 16 BITS"), rows, (1, 2, 3, 4)),
        f"Only the linear layers inside blocks shrink ({percent(round(linears / architecture.parameters, 2))} of this "
        f"model); embeddings, norms and head keep 16 bits. Bits a weight count the scales: one of 4 bytes for "
        f"{BLOCK} weights; double quantisation holds the scales themselves in 8 bits.",
    ))


def _size(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / 1024**2:.1f} MiB"


def _worked(quantised: Quantised) -> Table:
    """Value, code, restored value, error."""
    rows = tuple((signed(value), f"{code}", signed(after), signed(after - value)) for value, code, after in
                 zip(quantised.values, quantised.codes, quantised.restored, strict=True))
    return Table(("VALUE", "CODE", "RESTORED", "ERROR"), rows, (0, 1, 2, 3))
