"""The closed-form estimate: peak = what is always there + the largest of the step's moments."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.catalog.operations import Block
from workbench.engine.memory import terms
from workbench.engine.memory.activations import (
    Setting,
    block_activations,
    final_norm_backward,
    head_activations,
    norm_saved,
    stream_bytes,
)
from workbench.engine.memory.case import MemoryCase, TuningName, checked, precision_of
from workbench.engine.memory.generation import generation_bytes
from workbench.engine.memory.kernels import held_inputs, recompute_change
from workbench.engine.memory.litgpt import litgpt_block
from workbench.engine.memory.objectives import objective_of
from workbench.engine.memory.optimizers import optimizer_of, state_bytes, step_bytes
from workbench.engine.memory.sharding import sharding_of
from workbench.engine.memory.steps import materialises_scores
from workbench.engine.memory.tensors import base_parameters, trained_tensors

__all__ = ["COMPONENTS", "Estimator", "MemoryCase", "MemoryEstimate", "TuningName", "estimate_memory"]

COMPONENTS = ("weights", "gradients", "optimizer", "activations", "logits", "workspace")

# Until this machine has a history (calibration.py): the measured rows lie within 3 % of the moment's own bytes, the
# traced blocks of all families within 8 %.
_BAND_OF_MOMENT = 0.08
_BAND_OF_PEAK = 0.01

# The distance of the two masks that are counted: a power of two, so that lines through them are exact.
_FURTHER_KEYS = 4096


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on one GPU. `peak_bytes` predicts `torch.cuda.max_memory_allocated`; `components` sum to it.

    `static_bytes` is what stays allocated between steps: weights, optimizer states, library workspaces, and the
    gradients when they are accumulated. `low_bytes` to `high_bytes` is the band around the peak.
    """

    parameters: int
    trainable_parameters: int
    static_bytes: int
    peak_bytes: int
    low_bytes: int
    high_bytes: int
    peak_moment: str
    components: dict[str, int]


class _Moment(NamedTuple):
    """One candidate for the peak: bytes on top of weights, optimizer states and lasting workspaces, by component."""

    name: str
    gradients: float = 0
    optimizer: float = 0
    activations: float = 0
    logits: float = 0
    workspace: float = 0

    @property
    def total(self) -> float:
        return self.gradients + self.optimizer + self.activations + self.logits + self.workspace


class _Activations(NamedTuple):
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


def estimate_memory(architecture: Architecture, case: MemoryCase) -> MemoryEstimate:
    """Estimate one training set-up in microseconds. Raises InputError for what no term describes."""
    return Estimator(architecture, case).at(case.per_device_train_batch_size, case.max_length)


class Estimator:
    """One set-up whose batch and length may vary: what does not depend on them is computed once.

    Raises InputError for what no term describes.
    """

    def __init__(self, architecture: Architecture, case: MemoryCase) -> None:
        self.architecture, self.case = architecture, checked(case)
        self.precision = precision = precision_of(case)
        objective = objective_of(case.objective)
        self.sequences = objective.sequences
        self._dropout = case.lora_dropout if objective.dropout else 0.0
        tensors = trained_tensors(architecture, case)
        optimizer = optimizer_of(case.optim)
        full = case.tuning == "full"
        self.trained = sum(tensor.count * tensor.numbers for tensor in tensors)
        self.sharding = sharding_of(architecture, case, precision, self.trained)
        shards = self.sharding.shards
        base = terms.base_weights(architecture, case, precision)
        adapters = 0 if full else self.trained * precision.trained
        reference = terms.reference_weights(architecture, case, precision)
        self.weights = (base.sharded + adapters + reference) / shards + base.whole
        self.weights += case.reward_parameters * precision.weight
        self.states = state_bytes(optimizer, tensors, precision.trained) / shards
        self.step = step_bytes(optimizer, tensors, precision.trained) / (1 if optimizer.factored else shards)
        self.gradients = self.trained * precision.trained / shards
        self.workspace = terms.CUBLAS_WORKSPACES + self.sharding.always
        self.embedding = architecture.embedding_parameters * precision.trained / shards if full else 0
        self.accumulates = case.gradient_accumulation_steps > 1
        self.cast = terms.cast_weights(architecture, case, precision)
        self.dequantised = terms.dequantised(architecture, precision)
        self._activations: dict[tuple[int, int], _Activations] = {}
        self._keeps_scores = any(
            operation.kind == "attention" and materialises_scores(operation, case.attn_implementation)
            for block in architecture.blocks
            for operation in block.operations
        )
        self.adapted = frozenset[str]()
        if not full:
            self.adapted = frozenset(linear.name for linear, _ in architecture.targets(case.target_modules))
        stream = stream_bytes(Setting(architecture, self.case, precision, self.adapted))
        self.precision = replace(precision, stream=stream)

    @property
    def static(self) -> float:
        """Bytes that stay allocated between steps."""
        return self.weights + self.states + self.workspace + (self.gradients if self.accumulates else 0)

    def at(self, batch: int, length: int) -> MemoryEstimate:
        """The estimate for a micro-batch of `batch` rows of `length` tokens."""
        peak = self._peak(batch, length)
        components = {
            "weights": round(self.weights),
            "gradients": round(peak.gradients),
            "optimizer": round(self.states + peak.optimizer),
            "activations": round(peak.activations),
            "logits": round(peak.logits),
            "workspace": round(self.workspace + peak.workspace),
        }
        total = sum(components.values())
        half_band = self._half_band(peak, total)
        return MemoryEstimate(
            parameters=base_parameters(self.architecture, self.case),
            trainable_parameters=self.trained,
            static_bytes=round(self.static),
            peak_bytes=total,
            low_bytes=round(total - half_band),
            high_bytes=round(total + half_band),
            peak_moment=peak.name,
            components=components,
        )

    def high_bytes(self, batch: int, length: int) -> float:
        """The upper end of the band, without the rest."""
        peak = self._peak(batch, length)
        total = self.weights + self.states + self.workspace + peak.total
        return total + self._half_band(peak, total)

    def _half_band(self, peak: _Moment, total: float) -> float:
        fresh = peak.total - (self.gradients if self.accumulates else 0)
        return _BAND_OF_MOMENT * max(fresh, 0) + _BAND_OF_PEAK * total

    def _peak(self, batch: int, length: int) -> _Moment:
        moments = self._moments(batch, length)
        if self.case.objective == "rlhf":
            case = replace(self.case, per_device_train_batch_size=batch, max_length=length)
            cache, work = generation_bytes(self.architecture, case, self.precision)
            # Written at the start of an optimizer step: there are no gradients yet.
            moments.append(_Moment("the generation of answers", activations=cache, workspace=work))
        return max(moments, key=lambda moment: moment.total)

    def _moments(self, batch: int, length: int) -> list[_Moment]:
        """The candidates for the peak. Without accumulation each backward adds its gradients as it goes."""
        case, rows = self.case, batch * self.sequences
        tokens = rows * length
        scored = rows * case.answer_length(length) if case.objective == "rlhf" else tokens
        loss = terms.loss_bytes(self.architecture, case, self.precision, scored)
        act = self._activations_of(batch, length)
        total, embedding, split = self.gradients, self.embedding, self.sharding
        has_head = objective_of(case.objective).loss != "score"
        checkpointing, tied = case.gradient_checkpointing, has_head and self.architecture.tie_word_embeddings
        before = total if self.accumulates else 0
        # The head's gradient comes first; that of an untied embedding last of all, after the first block's. A tied one
        # waits for the embedding's before both join what was accumulated.
        waiting = embedding if self.accumulates and tied else 0
        with_head = total + waiting if self.accumulates else embedding if has_head else 0
        ungiven = act.pending * self.precision.trained / split.shards + (0 if tied else embedding)
        with_blocks = total + waiting if self.accumulates else total - ungiven
        cast = self.cast.in_backward
        in_block = act.fixed_in_block + self.cast.in_block + split.in_block
        blocks = ("of layer recompute",) * 2 if checkpointing else ("of the last layer", "of the first layer")
        return [
            _Moment("the forward pass of the last block", before, 0, (act.kept + act.in_forward) * tokens),
            _Moment("the loss", before, 0, (act.kept + act.head) * tokens, loss.forward,
                    act.fixed + self.cast.in_forward + split.at_loss),
            _Moment("the loss", before, 0, (act.kept + act.head) * tokens, loss.backward,
                    act.fixed + cast + split.at_loss),
            _Moment("the backward pass of the final norm", with_head, 0, (act.kept + act.in_norm) * tokens, 0,
                    act.fixed + cast + split.at_loss),
            _Moment(f"the backward pass {blocks[0]}", with_head, 0, (act.kept + act.in_block) * tokens, 0,
                    in_block + cast),
            _Moment(f"the backward pass {blocks[0]}", with_head, 0, (act.kept + act.while_dequantising) * tokens, 0,
                    in_block + cast + self.dequantised),
            _Moment(f"the backward pass {blocks[1]}", with_blocks, 0, act.first_block * tokens, 0, in_block),
            _Moment("the optimizer step", total, self.step),
            # Embedding gradients are dense; one that joins another is there twice.
            _Moment("the backward pass of the embedding", total,
                    workspace=embedding * (tied + self.accumulates) + split.at_embedding),
        ]

    def _activations_of(self, batch: int, length: int) -> _Activations:
        """Per token they depend on the length where attention keeps its scores, and on batch and length through SDPA's
        mask: affinely, so that two masks give all others."""
        case = self.case
        if self._keeps_scores:
            return self._counted(batch if case.packing else min(batch, 2), length)
        if case.attn_implementation != "sdpa" or not (case.packing or batch > 1):
            return self._counted(1, 1)
        keys = batch * length if case.packing else length
        rows = 1 if case.packing else 2
        short, long = self._counted(rows, 1), self._counted(rows, 1 + _FURTHER_KEYS)
        share = (keys - 1) / _FURTHER_KEYS
        return _Activations(*(low + share * (high - low) for low, high in zip(short, long, strict=True)))

    def _counted(self, batch: int, length: int) -> _Activations:
        key = batch, length
        if key not in self._activations:
            self._activations[key] = self._count(replace(
                self.case, per_device_train_batch_size=batch, max_length=length, lora_dropout=self._dropout))
        return self._activations[key]

    def _count(self, case: MemoryCase) -> _Activations:
        architecture, precision = self.architecture, self.precision
        setting = Setting(architecture, case, precision, self.adapted)
        blocks = [_Block.of(setting, block) for block in architecture.blocks]
        hidden_state = precision.stream * architecture.hidden_size
        head, norm = head_activations(setting), final_norm_backward(setting)
        whole, pending = max((block.saved + block.backward, block.pending) for block in blocks)
        last = max(block.saved + block.at_last_layer for block in blocks)
        if not case.gradient_checkpointing:
            kept = sum(block.count * block.saved for block in blocks)
            if self.adapted:
                kept -= norm_saved(setting, architecture.hidden_size)  # nothing before the first adapter asks for them
            fixed = sum(block.count * block.fixed for block in blocks)
            in_block = max(block.backward for block in blocks)
            dequantising = max(block.at_last_layer for block in blocks)
            return _Activations(kept, head, head + norm, in_block, whole, dequantising, fixed, fixed, 0, pending)
        # Checkpointing keeps each block's input. The first one is the embedding's output: 16 bits even where fp32 norms
        # raise the rest. With adapters it is a leaf that asks for a gradient, and stays alive beside its scaled copy
        # where the embedding is scaled outside its module.
        first = (precision.weight if precision.autocast else precision.stream) * architecture.hidden_size
        leaf = first if self.adapted and architecture.traits.scaled_embedding else 0
        kept = float((architecture.num_hidden_layers - 1) * hidden_state + first + leaf)
        kept += sum(block.count * held_inputs(setting, block) for block in architecture.blocks)
        more = recompute_change(setting)
        fixed_in_block = max(block.fixed for block in blocks)
        return _Activations(kept, head, head + norm, whole + more, first + leaf + whole + more, last + more, 0,
                            fixed_in_block, max(block.forward for block in blocks), pending)


@dataclass(frozen=True, slots=True)
class _Block:
    """Bytes per token of `count` blocks: kept, added by the backward at its largest, and by its last layer's."""

    count: int
    saved: float
    backward: float
    at_last_layer: float
    fixed: float
    pending: int
    forward: float

    @classmethod
    def of(cls, setting: Setting, block: Block) -> "_Block":
        found, widths = block_activations(setting, block), setting.precision
        saved = litgpt_block(setting, block) if setting.case.kernels == "litgpt" else found.saved
        inner = max(linear.in_features for linear in block.linears)
        at_last_layer = widths.stream * setting.architecture.hidden_size + widths.compute * inner
        return cls(block.count, saved, found.backward, min(at_last_layer, found.backward), found.fixed, found.pending,
                   found.forward)
