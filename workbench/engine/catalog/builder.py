"""Builds a decoder block operation by operation, counting its layers and norms on the way."""

from workbench.engine.catalog.layers import Experts, LinearLayer, Part
from workbench.engine.catalog.operations import Block, Kind, Operation, Value

NORM_WEIGHTS = {"rms": 1, "rms_fp32": 1, "rms_fp32_cast": 1, "rms_bare": 0, "layer": 2, "layer_no_bias": 1,
                "layer_1p": 2, "layer_plain": 0,
                "layer_bare": 0, "layer_fp32": 1}  # fmt: skip
"""Numbers a norm holds for each number it normalises, by kind.

rms: Llama's, back in 16 bits before the weight. rms_fp32: Gemma's, the weight is applied in fp32, as 1 + w.
rms_fp32_cast: GPT-OSS's, the 16-bit weight times the fp32 value. rms_bare: without a weight.
layer: nn.LayerNorm. layer_plain: that without weight and bias. layer_1p: Nemotron's, in 16 bits under autocast too.
layer_fp32: Cohere's, written out in fp32, no bias. layer_bare: OLMo's, in fp32, without weight and bias."""


class BlockBuilder:
    """Values are numbered; value 0 is the block's input, of `hidden` numbers per token."""

    def __init__(self, hidden: int) -> None:
        self.hidden = hidden
        self.values = [Value(hidden)]
        self.operations: list[Operation] = []
        self.linears: list[LinearLayer] = []
        self.norm_parameters = 0
        self.other_parameters = 0
        self.experts: Experts | None = None

    def width(self, value: int) -> int:
        """Numbers per token."""
        return self.values[value].width

    def op(self, kind: Kind, inputs: tuple[int, ...], width: int, of: int | None = None, variant: str = "",
           heads: int = 0, share: float = 0, layer: LinearLayer | None = None) -> int:  # fmt: skip
        """Append one operation with one output of `width`; the output's number."""
        self.values.append(Value(width, of))
        output = len(self.values) - 1
        self.operations.append(Operation(kind, inputs, (output,), variant, heads, share, layer))
        return output

    def linear(self, x: int, name: str, out: int, bias: bool = False, part: Part = "attention",
               quantised: bool = True) -> int:  # fmt: skip
        """A linear layer on value `x`."""
        layer = LinearLayer(name, self.width(x), out, bias, part, quantised)
        self.linears.append(layer)
        return self.op("linear", (x,), out, layer=layer)

    def split(self, x: int, *widths: int, slices: bool = False) -> tuple[int, ...]:
        """Views of one value, side by side: `torch.split`, whose backward joins all gradients at once, or slices."""
        outputs = []
        for width in widths:
            self.values.append(Value(width, x))
            outputs.append(len(self.values) - 1)
        self.operations.append(Operation("split", (x,), tuple(outputs), "slices" if slices else ""))
        return tuple(outputs)

    def norm(self, x: int, kind: str, weights: int | None = None) -> int:
        """A norm of `kind`; `weights` is the size it normalises over, where that is a head and not all of `x`."""
        width = self.width(x)
        self.norm_parameters += NORM_WEIGHTS[kind] * (weights or width)
        normalised = self.op("norm", (x,), width, variant=kind)
        if kind == "rms":
            return self.op("weight", (normalised,), width)
        if kind in ("rms_fp32", "rms_fp32_cast", "layer_fp32"):
            weighted = self.op("weight", (normalised,), width, variant="fp32")
            return self.op("cast", (weighted, x), width)
        return normalised

    def activation(self, x: int, name: str) -> int:
        """An activation function of transformers' ACT2FN."""
        return self.op("activation", (x,), self.width(x), variant=name)

    def multiply(self, a: int, b: int) -> int:
        """The product of two values."""
        return self.op("multiply", (a, b), self.width(a))

    def add(self, a: int, b: int) -> int:
        """The sum of two values."""
        return self.op("add", (a, b), self.width(a))

    def scale(self, x: int, applied: bool = True) -> int:
        """The product with a plain number, which keeps nothing; the value itself where it is not `applied`."""
        return self.op("scale", (x,), self.width(x)) if applied else x

    def release(self, x: int) -> None:
        """The function that held the value ends here: until then it lives, used or not."""
        self.operations.append(Operation("release", (x,), ()))

    def dropout(self, x: int, probability: float) -> int:
        """Dropout in training; the value itself at probability 0."""
        return self.op("dropout", (x,), self.width(x), share=probability) if probability else x

    def build(self) -> Block:
        """The block, once."""
        return Block(1, tuple(self.linears), self.norm_parameters, tuple(self.values), tuple(self.operations),
                     self.experts, self.other_parameters)  # fmt: skip
