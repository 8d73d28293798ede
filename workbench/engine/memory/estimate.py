"""The closed-form estimate: peak = what is always there + the largest of the step's moments."""

from dataclasses import dataclass

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.memory import terms
from workbench.engine.memory.activations import (
    Setting,
    block_activations,
    final_norm_backward,
    head_activations,
    norm_saved,
)
from workbench.engine.memory.case import (
    SEQUENCES_PER_ROW,
    MemoryCase,
    Precision,
    TuningName,
    checked,
    precision_of,
)

__all__ = ["COMPONENTS", "MemoryCase", "MemoryEstimate", "TuningName", "estimate_memory"]

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


@dataclass(frozen=True, slots=True)
class _Moment:
    """One candidate for the peak: bytes on top of the static ones, by component."""

    name: str
    gradients: float = 0
    optimizer: float = 0
    activations: float = 0
    logits: float = 0
    workspace: float = 0

    @property
    def total(self) -> float:
        return self.gradients + self.optimizer + self.activations + self.logits + self.workspace


def estimate_memory(architecture: Architecture, case: MemoryCase) -> MemoryEstimate:
    """Estimate one training set-up in microseconds. Raises InputError for what no term describes."""
    precision = precision_of(checked(case))
    trained = architecture.parameters
    weights = terms.base_weights(architecture, precision)
    if case.tuning != "full":
        trained = architecture.lora_parameters(case.lora_r, case.target_modules)
        weights += trained * precision.trained
    elif case.objective == "dpo":
        weights *= 2  # the frozen reference model
    shards = case.num_processes if case.sharding == "fsdp" else 1
    gradients = trained * precision.trained / shards
    accumulates = case.gradient_accumulation_steps > 1
    static = _Moment(
        "static",
        gradients=gradients if accumulates else 0,
        optimizer=terms.optimizer_states(case, precision, trained) / shards,
        workspace=terms.CUBLAS_WORKSPACES + terms.sharding_buffers(architecture, case, precision, trained),
    )
    fresh = 0 if accumulates else gradients
    peak = max(_moments(architecture, case, precision, fresh, trained / shards), key=lambda moment: moment.total)
    components = {"weights": round(weights / shards)} | {
        name: round(getattr(static, name) + getattr(peak, name)) for name in COMPONENTS[1:]
    }
    total = sum(components.values())
    half_band = _BAND_OF_MOMENT * peak.total + _BAND_OF_PEAK * total
    return MemoryEstimate(
        parameters=architecture.parameters,
        trainable_parameters=trained,
        static_bytes=round(weights / shards + static.total),
        peak_bytes=total,
        low_bytes=round(total - half_band),
        high_bytes=round(total + half_band),
        peak_moment=peak.name,
        components=components,
    )


def _moments(
    architecture: Architecture, case: MemoryCase, precision: Precision, gradients: float, trained: float
) -> list[_Moment]:
    """The candidates for the peak. `gradients` are the bytes that a whole backward adds, `trained` is a shard's."""
    tokens = case.per_device_train_batch_size * case.max_length * SEQUENCES_PER_ROW[case.objective]
    activations = _activations(architecture, case, precision)
    logits = terms.logits_bytes(architecture, case, precision, tokens)
    cached = terms.autocast_weights(architecture, case, precision)
    workspace = terms.dequantised(architecture, precision)
    embedding = architecture.embedding_parameters * precision.trained if case.tuning == "full" else 0
    # The gradient of an untied embedding comes last of all, after the first block's.
    share = embedding / (architecture.parameters * precision.trained)
    untied = 0.0 if architecture.tie_word_embeddings else share
    accumulated = architecture.tie_word_embeddings or case.gradient_accumulation_steps > 1
    copy = trained * precision.trained if terms.optimizer_of(case).step_copy else 0
    kept, fixed = activations.kept, activations.fixed
    return [
        _Moment("loss", 0, 0, (kept + activations.head) * tokens, logits, fixed + cached),
        _Moment("backward of the final norm", gradients * share, 0, (kept + activations.in_norm) * tokens, 0, fixed),
        _Moment(
            "backward of the last block", gradients * share, 0, (kept + activations.in_block) * tokens, 0,
            workspace + activations.fixed_in_block,
        ),
        _Moment(
            "backward of the first block",
            max(gradients * (1 - untied) - activations.pending * precision.trained, 0), 0,
            activations.first_block * tokens, 0, workspace + activations.fixed_in_block,
        ),
        _Moment("optimizer step", gradients, copy),
        # Embedding gradients are dense; one that joins another is there twice.
        _Moment("backward of the embedding", gradients, workspace=embedding if accumulated else 0),
    ]


@dataclass(frozen=True, slots=True)
class _Activations:
    """Bytes per token: kept by all blocks, and further ones by moment; `fixed` ones whatever the tokens."""

    kept: float
    head: float
    in_norm: float
    in_block: float
    first_block: float
    fixed: float
    fixed_in_block: float
    pending: int
    """Weights of the block that are still without gradient at its peak."""


def _activations(architecture: Architecture, case: MemoryCase, precision: Precision) -> _Activations:
    adapted = frozenset[str]()
    if case.tuning != "full":
        adapted = frozenset(linear.name for linear, _ in architecture.targets(case.target_modules))
    setting = Setting(architecture, case, precision, adapted)
    blocks = [(block.count, block_activations(setting, block)) for block in architecture.blocks]
    hidden_state = precision.stream * architecture.hidden_size
    head = head_activations(setting)
    norm = final_norm_backward(setting)
    _, pending = max((block.saved + block.backward, block.pending) for _, block in blocks)
    if not case.gradient_checkpointing:
        kept = sum(count * block.saved for count, block in blocks)
        if adapted:
            kept -= norm_saved(setting, architecture.hidden_size)  # nothing before the first adapter asks for gradients
        fixed = sum(count * block.fixed for count, block in blocks)
        in_block = max(block.backward for _, block in blocks)
        last = max(block.saved + block.backward for _, block in blocks)
        return _Activations(kept, head, head + norm, in_block, last, fixed, fixed, pending)
    # Checkpointing keeps each block's input. With adapters the first one is a leaf that asks for a gradient, and stays
    # alive beside its scaled copy where the embedding is scaled outside its module.
    leaf = hidden_state if adapted and architecture.traits.scaled_embedding else 0
    kept = float(architecture.num_hidden_layers * hidden_state + leaf)
    in_block = max(block.saved + block.backward for _, block in blocks)
    fixed_in_block = max(block.fixed for _, block in blocks)
    return _Activations(kept, head, head + norm, in_block, hidden_state + leaf + in_block, 0, fixed_in_block, pending)
