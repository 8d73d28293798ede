"""A decoder block as the operations it runs: what counts its layers, and what its activations are read off.

Values carry numbers per token; operations read some and write others, in the order of the model's own forward.
"""

from dataclasses import dataclass
from typing import Literal

from workbench.engine.catalog.layers import Experts, LinearLayer, Part

Kind = Literal[
    "linear", "norm", "weight", "cast", "rotary", "attention", "activation", "multiply", "add", "scale", "dropout",
    "split", "concat", "copy", "release", "router", "choose", "gather", "bias", "experts", "weigh", "scatter",
]  # fmt: skip
"""norm: the statistics of a norm, without its weight. weight: the product with it. cast: back to the input's type.
split: views of one storage. copy: made contiguous. release: the model's code lets go of a value here. router, choose,
gather, bias, experts, weigh, scatter: the steps of a mixture; bias is one row for each token of an expert."""


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor: `width` numbers per token. A view names the value `of` whose storage it shares."""

    width: int
    of: int | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One step. `variant` tells operations of one kind apart: the norm's or activation's kind, the layer's name."""

    kind: Kind
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variant: str = ""
    heads: int = 0
    """Attention: query heads. Experts: how many the router chooses from."""
    share: float = 0
    """Dropout's probability, attention's too; the share of each head that a rotary embedding turns."""
    layer: LinearLayer | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """`count` decoder blocks of one shape: what they compute, in order, and what they hold.

    `linears` lists the linear layers in the order they run. `other_parameters` are those of no layer: attention sinks,
    learned scales. Values are numbered as in `operations`; value 0 is the block's input.
    """

    count: int
    linears: tuple[LinearLayer, ...]
    norm_parameters: int
    values: tuple[Value, ...]
    operations: tuple[Operation, ...]
    experts: Experts | None = None
    other_parameters: int = 0

    @property
    def shape(self) -> tuple[object, ...]:
        """What must be equal for two layers to be counted as one block."""
        return (self.linears, self.norm_parameters, self.operations, self.experts, self.other_parameters)

    def linear_parameters(self, part: Part) -> int:
        """Numbers in the linear layers of one part of the block."""
        return sum(linear.parameters for linear in self.linears if linear.part == part)

    @property
    def parameters(self) -> int:
        """Parameters of one block."""
        experts = self.experts.parameters + self.experts.router_parameters if self.experts else 0
        linears = sum(linear.parameters for linear in self.linears)
        return linears + experts + self.norm_parameters + self.other_parameters
