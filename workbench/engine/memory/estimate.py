"""The closed-form estimate: peak = what is always there + the largest of the step's moments."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.memory import terms
from workbench.engine.memory.activations import head_number, stream_bytes
from workbench.engine.memory.case import MemoryCase, TuningName, checked, precision_of
from workbench.engine.memory.generation import generation_bytes
from workbench.engine.memory.lines import Activations, ModelLines, model_lines
from workbench.engine.memory.objectives import objective_of
from workbench.engine.memory.optimizers import optimizer_of, state_bytes, step_bytes
from workbench.engine.memory.setting import Setting
from workbench.engine.memory.sharding import sharding_of
from workbench.engine.memory.tensors import base_parameters, trained_tensors

__all__ = ["COMPONENTS", "Estimator", "MemoryCase", "MemoryEstimate", "TuningName", "estimate_memory"]

COMPONENTS = ("weights", "gradients", "optimizer", "activations", "logits", "workspace")

# Until this machine has a history (calibration.py): the measured rows lie within 3 % of the moment's own bytes, the
# traced blocks of all families within 8 %.
_BAND_OF_MOMENT = 0.08
_BAND_OF_PEAK = 0.01


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


def _added(moment: "_Moment") -> float:
    """Bytes that a moment adds to what is always there."""
    return sum(moment[1:])


class _Moment(NamedTuple):
    """One candidate for the peak: bytes on top of weights, optimizer states and lasting workspaces, by component."""

    name: str
    gradients: float = 0
    optimizer: float = 0
    activations: float = 0
    logits: float = 0
    workspace: float = 0


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
        self._lines: dict[bool, ModelLines] = {}
        self._activations: dict[tuple[bool, int, int], Activations] = {}
        self._adapted = frozenset[str]()
        if not full:
            self._adapted = frozenset(linear.name for linear, _ in architecture.targets(case.target_modules))
        self.precision = replace(precision, stream=stream_bytes(self._setting(1)))
        self._head_number = head_number(self._setting(1))

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
        total = self.weights + self.states + self.workspace + _added(peak)
        return total + self._half_band(peak, total)

    def _half_band(self, peak: _Moment, total: float) -> float:
        fresh = _added(peak) - (self.gradients if self.accumulates else 0)
        return _BAND_OF_MOMENT * max(fresh, 0) + _BAND_OF_PEAK * total

    def _peak(self, batch: int, length: int) -> _Moment:
        moments = self._moments(batch, length)
        if self.case.objective == "rlhf":
            cache, work = generation_bytes(self.architecture, self.case, self.precision, batch, length)
            # Written at the start of an optimizer step: there are no gradients yet.
            moments.append(_Moment("the generation of answers", activations=cache, workspace=work))
        return max(moments, key=_added)

    def _moments(self, batch: int, length: int) -> list[_Moment]:
        """The candidates for the peak. Without accumulation each backward adds its gradients as it goes."""
        case, rows = self.case, batch * self.sequences
        tokens = rows * length
        scored = rows * case.answer_length(length) if case.objective == "rlhf" else tokens
        loss = terms.loss_bytes(self.architecture, case, self.precision, scored, self._head_number)
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

    def _activations_of(self, batch: int, length: int) -> Activations:
        """Packed rows are one text to attention, which looks at all of them; a single row needs no mask."""
        masks = batch > 1
        if masks not in self._lines:
            self._lines[masks] = model_lines(self._setting(1 + masks))
        lines = self._lines[masks]
        keys = 1 if not lines.depends_on_keys else batch * length if self.case.packing else length
        seen = masks, keys, batch * self.sequences * length
        if seen not in self._activations:
            self._activations[seen] = lines.at(*seen[1:])
        return self._activations[seen]

    def _setting(self, batch: int) -> Setting:
        """What the lines depend on; the rest of the case is made the same for all."""
        case = replace(
            self.case, per_device_train_batch_size=batch, max_length=1, lora_dropout=self._dropout, objective="sft",
            gradient_accumulation_steps=1, optim="sgd", num_processes=1, sharding="none", reward_parameters=0)
        return Setting(self.architecture, case, self.precision, self._adapted)
