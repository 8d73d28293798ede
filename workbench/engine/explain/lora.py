"""LoRA's arithmetic: how many numbers an adapter pair adds to a matrix, for every adapted matrix of a model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.catalog.layers import LinearLayer
from workbench.engine.explain.document import Section, Table, percent

EXAMPLE = (LinearLayer("example", 512, 512), 4)
"""A 512×512 layer and rank 4: small enough to check by head."""
_RANKS = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class AdaptedMatrix:
    """`count` matrices of one shape in a model. `weights` and `adapter` are the numbers in one of them and in its pair.

    Experts share fused tensors; they and their router are one line: `out_features` and `in_features` are 0.
    """

    name: str
    out_features: int
    in_features: int
    count: int
    weights: int
    adapter: int

    @property
    def share(self) -> float:
        """Numbers of the pair for each number of the matrix."""
        return self.adapter / self.weights


def adapted_matrix(layer: LinearLayer, r: int, count: int = 1) -> AdaptedMatrix:
    """One linear layer under rank `r`: A is [r, in], B is [out, r]."""
    return AdaptedMatrix(layer.name, layer.out_features, layer.in_features, count, layer.weight_parameters,
                         layer.lora_parameters(r))


def adapted_matrices(architecture: Architecture, r: int, target_modules: str | Sequence[str]) -> list[AdaptedMatrix]:
    """Every adapted matrix, those of one name and shape together. Raises InputError when no module matches."""
    counts: dict[LinearLayer, int] = {}
    for layer, count in architecture.targets(target_modules):
        counts[layer] = counts.get(layer, 0) + count
    found = [adapted_matrix(layer, r, count) for layer, count in counts.items()]
    in_experts = architecture.lora_parameters(r, target_modules) - sum(m.count * m.adapter for m in found)
    if in_experts:
        modules = architecture.parameters_by_module
        weights = modules["experts"] + modules["router"]
        found.append(AdaptedMatrix("experts", 0, 0, 1, weights, in_experts))
    return found


def smallest_full_rank(matrices: Sequence[AdaptedMatrix]) -> int:
    """The rank from which the pair of some matrix holds as many numbers as the matrix itself."""
    return min(-(-m.weights // (m.in_features + m.out_features)) for m in matrices if m.in_features)


def lora_figures(architecture: Architecture, r: int, target_modules: str | Sequence[str]) -> dict[str, Any]:
    """The numbers behind `lora_sections`."""
    matrices = adapted_matrices(architecture, r, target_modules)
    total = sum(m.count * m.adapter for m in matrices)
    return {
        "lora_r": r, "matrices": [{**asdict(m), "share": m.share} for m in matrices], "trainable_parameters": total,
        "share": total / architecture.parameters,
        "by_rank": [{"lora_r": rank, "trainable_parameters": architecture.lora_parameters(rank, target_modules)}
                    for rank in sorted({*_RANKS, r})],
    }


def example_section() -> Section:
    """The arithmetic on a layer small enough to follow."""
    layer, r = EXAMPLE
    one = adapted_matrix(layer, r)
    return Section("The idea", (
        "The weight W stays as it is. Beside it LoRA trains two thin matrices, A [r × in] and B [out × r], and the "
        "layer answers W·x + (lora_alpha / r)·B·A·x. B starts at zero: training begins at the very model it was given.",
        f"A {one.out_features}×{one.in_features} layer has {one.weights:,} weights. Rank {r} adds "
        f"{one.out_features}·{r} + {r}·{one.in_features} = {one.adapter:,}: {percent(one.share)}.",
    ))


def lora_sections(architecture: Architecture, name: str, r: int, target_modules: str | Sequence[str]) -> list[Section]:
    """The same line for every adapted matrix of a model, and how the total grows with the rank."""
    matrices = adapted_matrices(architecture, r, target_modules)
    total = sum(m.count * m.adapter for m in matrices)
    rows = [(m.name, f"{m.out_features}×{m.in_features}" if m.in_features else "fused", f"{m.count}", f"{m.weights:,}",
             f"{m.adapter:,}", percent(m.share)) for m in matrices]
    adapted = sum(m.count * m.weights for m in matrices)
    rows.append(("all", "", f"{sum(m.count for m in matrices)}", "", f"{total:,}", percent(total / adapted)))
    table = Table(("MATRIX", "OUT×IN", "TIMES", "WEIGHTS", f"ADAPTER r={r}", "SHARE"), tuple(rows), (2, 3, 4, 5))
    growth = tuple(
        (f"{'>' if rank == r else ' '} {rank}", f"{numbers:,}", percent(numbers / architecture.parameters))
        for rank in sorted({*_RANKS, r}) for numbers in (architecture.lora_parameters(rank, target_modules),))
    parts: list[str | Table] = [Table(("RANK", "TRAINED", "OF THE MODEL"), growth, (0, 1, 2)),
                                "The pairs grow in proportion to r: twice the rank, twice the numbers."]
    if any(m.in_features for m in matrices):
        parts[-1] = (f"{parts[-1]} From r = {smallest_full_rank(matrices):,} on, the pair of the smallest matrix is as "
                     "large as the matrix: no longer low-rank.")
    return [
        Section(f"The adapted matrices of {name}", (
            table, f"{adapted:,} weights are adapted by {total:,} new ones: trained are "
                   f"{percent(total / architecture.parameters)} of the model's {architecture.parameters:,}.")),
        Section("How it grows with the rank", tuple(parts)),
    ]
