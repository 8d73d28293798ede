"""What a whole model keeps and needs per token, for any number of keys that attention looks at.

Scores and masks have a number per key, so every point of a block's run is a line over the keys. Two runs of the tape
give all lines of a set-up, and batch and length may then vary for the price of a few products.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from workbench.engine.catalog.operations import Block
from workbench.engine.memory.activations import BlockActivations, block_activations, embedded, final_norm, norm_saved
from workbench.engine.memory.kernels import held_inputs, recompute_change
from workbench.engine.memory.litgpt import litgpt_block
from workbench.engine.memory.setting import Setting
from workbench.engine.memory.steps import materialises_scores

# The distance of the two numbers of keys that are counted: a power of two, so that slopes are exact.
_FURTHER_KEYS = 4096


class Activations(NamedTuple):
    """Bytes per token: kept by all blocks, and further ones by moment; `fixed` ones whatever the tokens.

    `while_dequantising` is a block's share while its last layer's weight is dequantised: the gradient of the layer's
    input is there, those of what made that input are not yet.
    """

    kept: float
    head: float
    in_norm: float
    in_block: float
    first_block: float
    while_dequantising: float
    fixed: float
    fixed_in_block: float
    in_forward: float
    """A later block's forward pass, where blocks return their scores and checkpointing keeps little else."""
    pending: float
    """Weights of a block that are still without gradient at its peak."""


class Line(NamedTuple):
    """Bytes per token as they grow with the keys."""

    at_one: float
    per_key: float

    def at(self, keys: int) -> float:
        """Bytes per token for a number of keys of at least 1."""
        return self.at_one + self.per_key * (keys - 1)


class _BlockLines(NamedTuple):
    """One block, of which there are `blocks`: what it keeps, and what its backward adds at each point of its run that
    can be its peak, with the weights that still wait for their gradient there; `fixed` bytes whatever the tokens."""

    blocks: int
    saved: Line
    backward: tuple[tuple[Line, int], ...]
    fixed: float
    forward: Line
    inner: int
    """Width of the widest input of a linear layer."""


class ModelLines:
    """All blocks of one set-up, the head, and what lies around them. Raises InputError for what is not described.

    Of the setting's case, batch and length say only whether there is a mask.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting, architecture = setting, setting.architecture
        attends = [op for block in architecture.blocks for op in block.operations if op.kind == "attention"]
        scores = any(materialises_scores(op, setting.case.attn_implementation) for op in attends)
        self.depends_on_keys = scores or setting.masked
        self.blocks = [self._block(block) for block in architecture.blocks]
        self.held = sum(block.count * held_inputs(setting, block) for block in architecture.blocks)
        self.head, self.in_norm = final_norm(setting)
        self.before_blocks, self.first = embedded(setting)
        self.before_adapters = norm_saved(setting, architecture.hidden_size) if setting.adapted else 0.0

    def _block(self, block: Block) -> _BlockLines:
        setting = self.setting
        short = block_activations(setting, block)
        if self.depends_on_keys:
            long = block_activations(replace(setting, keys=setting.keys + _FURTHER_KEYS), block)
            saved, backward = _line(short.saved, long.saved), _highest(short, long)
            forward = _line(short.forward, long.forward)
        else:
            peak, pending = max(short.levels, key=_bytes)
            saved, backward = Line(short.saved, 0), ((Line(peak - short.saved, 0), pending),)
            forward = Line(short.forward, 0)
        if setting.case.kernels == "litgpt":
            saved = Line(litgpt_block(setting, block), 0)
        inner = max(linear.in_features for linear in block.linears)
        return _BlockLines(block.count, saved, backward, short.fixed, forward, inner)

    def at(self, keys: int, tokens: int) -> Activations:
        """Bytes per token for a number of keys of at least 1; `tokens` says what fixed bytes weigh beside them."""
        setting, blocks = self.setting, self.blocks
        architecture, precision = setting.architecture, setting.precision
        stream = precision.stream * architecture.hidden_size
        saved = [block.saved.at(keys) for block in blocks]
        peaks = [max([(line.at(keys), pending) for line, pending in block.backward], key=_bytes) for block in blocks]
        whole, pending = max((kept + peak, pending) for kept, (peak, pending) in zip(saved, peaks, strict=True))
        last = [min(stream + precision.compute * block.inner, peak)
                for block, (peak, _) in zip(blocks, peaks, strict=True)]
        if not setting.case.gradient_checkpointing:
            # Nothing before the first adapter asks for what the first norm keeps.
            kept = sum(block.blocks * size for block, size in zip(blocks, saved, strict=True)) - self.before_adapters
            kept += self.before_blocks if setting.full else 0
            fixed = sum(block.blocks * block.fixed for block in blocks)
            return Activations(kept, self.head, self.in_norm, max(map(_bytes, peaks)), whole, max(last), fixed, fixed,
                               0, pending)
        # Checkpointing keeps each block's input. The first one is the embedding's output: 16 bits even where fp32 norms
        # raise the rest. With adapters it is a leaf that asks for a gradient, and stays alive beside its scaled copy
        # where the embedding is scaled outside its module.
        first = self.first * architecture.hidden_size
        is_leaf = setting.adapted and architecture.traits.scaled_embedding
        leaf = self.before_blocks + (precision.weight * architecture.hidden_size if is_leaf else 0)
        kept = float((architecture.num_hidden_layers - 1) * stream + first + leaf) + self.held
        more = recompute_change(setting)
        # Of one block at a time: the largest with what is fixed in it.
        whole, pending, fixed = max(((size + peak, waits, block.fixed) for block, size, (peak, waits)
                                     in zip(blocks, saved, peaks, strict=True)), key=lambda b: b[0] + b[2] / tokens)
        in_last = max(size + peak + (block.fixed - fixed) / tokens
                      for block, size, peak in zip(blocks, saved, last, strict=True)) + more
        return Activations(kept, self.head, self.in_norm, whole + more, first + leaf + whole + more, in_last, 0,
                           fixed, max(block.forward.at(keys) for block in blocks), pending)


@lru_cache(maxsize=256)
def model_lines(setting: Setting) -> ModelLines:
    """The lines of a set-up, which every other batch, length, optimizer and GPU shares."""
    return ModelLines(setting)


def _bytes(level: tuple[float, int]) -> float:
    return level[0]


def _line(short: float, long: float) -> Line:
    return Line(short, (long - short) / _FURTHER_KEYS)


def _highest(short: BlockActivations, long: BlockActivations) -> tuple[tuple[Line, int], ...]:
    """What the backward adds at those points that are above all others for some number of keys."""
    further = [level for level, _ in long.levels]
    points = sorted(zip(short.levels, further, strict=True), key=lambda point: (-point[0][0], -point[1]))
    found: list[tuple[Line, int]] = []
    steepest = float("-inf")
    for (low, pending), high in points:
        if high - low > steepest:
            steepest = high - low
            found.append((_line(low - short.saved, high - long.saved), pending))
    return tuple(found)
