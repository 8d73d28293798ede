"""The tunings: which weights move, and at what learning rate by default."""

from dataclasses import dataclass
from typing import Literal, get_args

TuningId = Literal["full", "lora", "qlora"]


@dataclass(frozen=True)
class Tuning:
    """One tuning: `id` as in a recipe, `title` on screen, its learning rate by default."""

    id: TuningId
    title: str
    default_learning_rate: float


# Learning rates: trl's SFTConfig default (2e-5) for full; ten times that for adapters, as in
# "LoRA Without Regret" (Thinking Machines, 2025) and the QLoRA paper's 7B–13B runs (2e-4).
TUNINGS: dict[str, Tuning] = {
    tuning.id: tuning
    for tuning in (
        Tuning("full", "Full", 2e-5),
        Tuning("lora", "LoRA", 2e-4),
        Tuning("qlora", "QLoRA", 2e-4),
    )
}
assert tuple(TUNINGS) == get_args(TuningId)
