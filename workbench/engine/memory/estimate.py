"""The closed-form estimate: peak = what is always there + the largest of the step's moments."""

from dataclasses import dataclass

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.memory import terms
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

# Until this machine has a history (calibration.py): the spread of the moment's own bytes over the measured rows.
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
    optimizer = terms.optimizer_of(case)
    state_width = 2 * precision.trained if optimizer.state is None else optimizer.state
    gradients = float(trained * precision.trained)
    shards = case.num_processes if case.sharding == "fsdp" else 1
    buckets = gradients if case.sharding == "ddp" and case.num_processes > 1 else 0.0
    gathered = 2 * _largest_unit(architecture, precision) if shards > 1 else 0.0
    static = _Moment(
        "static",
        gradients=(gradients if case.gradient_accumulation_steps > 1 else 0) / shards,
        optimizer=trained * state_width / shards,
        workspace=terms.CUBLAS_WORKSPACES + buckets + gathered,
    )
    fresh = 0.0 if static.gradients else gradients / shards
    peak = max(_moments(architecture, case, precision, fresh, trained / shards), key=lambda m: m.total)
    components = {"weights": round(weights / shards)} | {
        name: round(getattr(static, name) + getattr(peak, name)) for name in COMPONENTS[1:]
    }
    total = sum(components.values())
    half = _BAND_OF_MOMENT * peak.total + _BAND_OF_PEAK * total
    return MemoryEstimate(
        parameters=architecture.parameters,
        trainable_parameters=trained,
        static_bytes=round(weights / shards + static.total),
        peak_bytes=total,
        low_bytes=round(total - half),
        high_bytes=round(total + half),
        peak_moment=peak.name,
        components=components,
    )


def _moments(
    architecture: Architecture, case: MemoryCase, precision: Precision, gradients: float, trained: float
) -> list[_Moment]:
    """The candidates for the peak. `gradients` are the bytes that a full backward adds."""
    tokens = case.per_device_train_batch_size * case.max_length * SEQUENCES_PER_ROW[case.objective]
    adapted = frozenset[str]()
    if case.tuning != "full":
        adapted = frozenset(linear.name for linear, _ in architecture.targets(case.target_modules))
    blocks = [
        (block.count, terms.block_activations(architecture, block, adapted, case, precision))
        for block in architecture.blocks
    ]
    layer_input = precision.stream * architecture.hidden_size
    if case.gradient_checkpointing:
        kept = float(architecture.num_hidden_layers * layer_input)
        in_block = max(a.saved + a.backward for _, a in blocks)
    else:
        kept = sum(count * a.saved for count, a in blocks)
        in_block = max(a.backward for _, a in blocks)
    head = terms.head_activations(architecture, case, precision)
    logits = terms.logits_bytes(architecture, case, precision, tokens)
    workspace = terms.dequantised(architecture, precision)
    largest = max(block.parameters for block in architecture.blocks)
    first_block = (layer_input if case.gradient_checkpointing else 0) + in_block
    head_share = (architecture.embedding_parameters + largest) / architecture.parameters
    if case.tuning != "full":
        head_share = 0.0
    copy = trained * precision.trained if terms.optimizer_of(case).step_copy else 0.0
    return [
        _Moment("loss", activations=(kept + head) * tokens, logits=logits),
        _Moment(
            "backward of the last block",
            gradients=gradients * head_share,
            activations=(kept + in_block) * tokens,
            workspace=workspace,
        ),
        _Moment(
            "backward of the first block",
            gradients=gradients,
            activations=first_block * tokens,
            workspace=workspace,
        ),
        _Moment("optimizer step", gradients=gradients, optimizer=copy),
    ]


def _largest_unit(architecture: Architecture, precision: Precision) -> float:
    """Bytes of the largest unit that FSDP gathers: one block, or the embedding."""
    block = max(block.parameters for block in architecture.blocks)
    return float(precision.weight * max(block, architecture.embedding_parameters))
