"""What one decoder block keeps for its backward, and what that backward adds: bytes per token.

Read off the block's own operations (catalog/operations.py): steps.py says what each keeps and needs, tape.py runs them.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

from workbench.engine.catalog.builder import BlockBuilder
from workbench.engine.catalog.operations import Block
from workbench.engine.catalog.reader import REHEARSAL_HINT
from workbench.engine.errors import InputError
from workbench.engine.memory.setting import Setting
from workbench.engine.memory.steps import Step, Steps
from workbench.engine.memory.tape import Tape

__all__ = ["BlockActivations", "Setting", "block_activations", "embedded", "final_norm", "head_number", "norm_saved",
           "stream_bytes"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class BlockActivations:
    """Bytes of one block: `saved` per token until its backward, `fixed` whatever the number of tokens. `levels` are the
    bytes per token at each point of its run, with the trained weights that have no gradient yet then. `forward` is
    attention's share of the forward pass with the scores that the block before returned; 0 where none does."""

    saved: float
    levels: tuple[tuple[float, int], ...]
    fixed: float = 0
    forward: float = 0


def block_activations(setting: Setting, block: Block) -> BlockActivations:
    """The bytes of one block, attention and MLP together."""
    mixture = setting.architecture.traits.mixture
    if not block.operations or (block.experts and mixture and not mixture.described):
        raise InputError(f"The activations of {setting.architecture.family} are not described.", hint=REHEARSAL_HINT)
    if mixture and mixture.router_layer and mixture.router_layer in setting.adapted:
        raise InputError(
            f"PEFT cannot adapt the router of {setting.architecture.family}: its layer answers with a tuple, and the "
            "first forward fails.",
            hint="Name the attention layers in target_modules: q_proj, k_proj, v_proj, o_proj.",
        )
    tape = _run(setting, block)
    forward = 0.0
    if setting.architecture.traits.returns_scores:
        # In the type of the values: that of the block's input where bitsandbytes' layers made them.
        width = setting.precision.stream if setting.precision.quantization != "none" else setting.precision.compute
        heads = sum(operation.heads for operation in block.operations if operation.kind == "attention")
        forward = tape.in_attention + width * heads * setting.keys
    fixed = 0.0
    if block.experts and setting.adapts_experts:
        # peft's target_parameters: a merged copy of all weights.
        fixed = setting.precision.compute * block.experts.parameters
    pending = _pending(setting, block)
    return BlockActivations(tape.saved, tuple((alive, pending[walked]) for alive, walked in tape.levels), fixed,
                            forward)


def _pending(setting: Setting, block: Block) -> list[int]:
    """Weights of the operations that the backward has still to walk, by how many it has walked, in full fine-tuning;
    both tensors of a mixture's experts weigh 2 to 1."""
    if not setting.full:
        return [0] * (len(block.operations) + 1)
    ahead, linears, tensors = [0], 0, 0
    for operation in block.operations:
        linears += operation.layer.weight_parameters if operation.layer else 0
        tensors += {0: 2, 2: 1}.get(tensors, 0) if operation.kind == "experts" else 0
        ahead.append(linears + (block.experts.parameters * tensors // 3 if block.experts else 0))
    return ahead[::-1]


def final_norm(setting: Setting) -> tuple[float, float]:
    """Bytes per token of the final norm: what it keeps and its output; and all that its backward has alive."""
    tape = _run(setting, _final_norm(setting), counts_input=True)
    return tape.saved + head_number(setting) * setting.architecture.hidden_size, tape.peak


@lru_cache(maxsize=256)
def head_number(setting: Setting) -> float:
    """Bytes per number of what the head is given: LayerNorm answers autocast in fp32, Nemotron's own in 16 bits."""
    block = _final_norm(setting)
    steps = Steps(setting, block)
    return [steps.of(operation).number for operation in block.operations][-1]


def embedded(setting: Setting) -> tuple[float, float]:
    """Bytes per token that a norm behind the embedding keeps, and bytes per number of what the first block is given."""
    precision, traits = setting.precision, setting.architecture.traits
    given = precision.weight if precision.autocast else precision.stream
    if not traits.embedding_norm:
        return 0.0, given
    at_first = replace(setting, precision=replace(precision, stream=given))
    block = _norm(setting.architecture.hidden_size, traits.embedding_norm)
    steps = Steps(at_first, block)
    number = [steps.of(operation).number for operation in block.operations][-1]
    return _run(at_first, block, counts_input=not setting.adapted).saved, number


@lru_cache(maxsize=256)
def stream_bytes(setting: Setting) -> int:
    """Bytes per number between the blocks. bitsandbytes' layers answer in their input's type, so that what autocast
    computes in fp32, as LayerNorm, reaches the residual stream; so does the norm of an embedding (BLOOM)."""
    precision, traits = setting.precision, setting.architecture.traits
    if not precision.autocast or (precision.quantization == "none" and not traits.embedding_norm):
        return precision.stream
    if embedded(setting)[1] == 4:
        return 4
    last = []
    for block in setting.architecture.blocks:
        steps = Steps(setting, block)
        for operation in block.operations:
            steps.of(operation)
        last += [steps.numbers[operation.outputs[0]] for operation in block.operations[-1:]]
    return int(max([precision.stream, *last]))


def norm_saved(setting: Setting, size: int) -> float:
    """Bytes per token that one norm over `size` numbers keeps, its output not included."""
    return _run(setting, _norm(size, setting.architecture.traits.norm), counts_input=False).saved


def _final_norm(setting: Setting) -> Block:
    """To be run with its input counted: nobody else keeps the last block's output."""
    traits = setting.architecture.traits
    return _norm(setting.architecture.hidden_size, traits.final_norm or traits.norm)


def _norm(size: int, kind: str) -> Block:
    builder = BlockBuilder(size)
    if kind != "none":
        builder.norm(0, kind)
    else:
        builder.op("copy", (0,), size)
    return builder.build()


def _run(setting: Setting, block: Block, counts_input: bool | None = None) -> Tape:
    steps = Steps(setting, block)
    found = [steps.of(operation) for operation in block.operations]
    if counts_input is not None:
        return Tape(block.values, block.operations, found, steps.numbers, counts_input)
    if not setting.case.gradient_checkpointing:
        return Tape(block.values, block.operations, found, steps.numbers, counts_input=True)
    waiting, left_out = _recompute(setting, block, found)
    return Tape(block.values, block.operations, found, steps.numbers, False, waiting, left_out)


def _recompute(setting: Setting, block: Block, found: list[Step]) -> tuple[float, int]:
    """Bytes per token of the gradients that are there while a checkpointed block runs again, its output's at least, and
    how many of its last operations are left out then.

    Non-reentrant checkpointing (torch/utils/checkpoint.py) recomputes when the backward first asks for what was kept,
    and stops when it has it all. Sums keep nothing; nor does PEFT's scale, a plain number (tuners/lora/layer.py).
    """
    waiting, left_out = found[-1].number * block.values[block.operations[-1].outputs[0]].width, 0
    if setting.case.on_transformers_4:
        return waiting, 0
    for operation, step in zip(reversed(block.operations), reversed(found), strict=True):
        layer = operation.layer
        if layer and layer.name in setting.adapted:
            product = setting.precision.compute if setting.precision.autocast else setting.precision.trained
            if setting.precision.quantization != "int8":  # whose forward needs most before the sum
                step.forward -= (step.number + product) * layer.out_features
            return waiting + product * layer.out_features, left_out
        if operation.kind in ("scatter", "scale"):
            waiting += sum(size or 0 for _, size in step.gradients)
        elif operation.kind not in ("add", "release"):
            break
        left_out += 1
    return waiting, left_out
