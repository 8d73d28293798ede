"""One set-up as the steps of a block see it."""

from dataclasses import dataclass

from workbench.engine.catalog.architecture import ALL_LINEAR, Architecture
from workbench.engine.catalog.layers import LinearLayer
from workbench.engine.memory.case import MemoryCase, Precision


@dataclass(frozen=True, slots=True)
class Setting:
    """What all steps share: the model, the case, its number formats and the adapted layers' names."""

    architecture: Architecture
    case: MemoryCase
    precision: Precision
    adapted: frozenset[str]
    keys: int = 1
    """Keys in the row of scores, or of the mask, that one token has."""

    @property
    def full(self) -> bool:
        """Whether every weight is trained."""
        return self.case.tuning == "full"

    @property
    def masked(self) -> bool:
        """Whether SDPA is given a mask: padding needs one, and packed rows more so; one text has causality."""
        case = self.case
        return case.attn_implementation == "sdpa" and (case.packing or case.per_device_train_batch_size > 1)

    def quantises(self, layer: LinearLayer) -> bool:
        """Whether bitsandbytes computes this layer."""
        return self.precision.quantization != "none" and layer.quantised

    def copies_input(self, layer: LinearLayer) -> bool:
        """Whether an adapter keeps its own copy of its input, for dropout or for a cast to its fp32 weights.

        Linear4bit and Linear8bitLt do not cast (peft/tuners/lora/bnb.py, under autocast).
        """
        casts = not self.quantises(layer) and self.precision.trained != self.precision.compute
        return not self.full and (self.case.lora_dropout > 0 or casts)

    @property
    def adapts_experts(self) -> bool:
        """Whether PEFT adapts the fused experts."""
        return not self.full and self.case.target_modules == ALL_LINEAR and self.architecture.adapts_experts
