"""The tunings: which weights move, and how fast by default."""

from dataclasses import dataclass
from typing import Literal, get_args

from workbench.engine.objectives import OBJECTIVES

TuningId = Literal["full", "lora", "qlora"]


@dataclass(frozen=True)
class Tuning:
    """One tuning: `id` as in a recipe, `title` on screen, and how many times the rate of full training it takes."""

    id: TuningId
    title: str
    learning_rate_factor: float


# Adapters want about ten times the rate of full training, whatever the objective: "LoRA Without Regret" (Thinking
# Machines, 2025); trl's documentation of its PEFT integration says the same. For sft that is 2e-4, which the QLoRA
# paper used up to 13B.
TUNINGS: dict[str, Tuning] = {
    tuning.id: tuning for tuning in (Tuning("full", "Full", 1.0), Tuning("lora", "LoRA", 10.0),
                                     Tuning("qlora", "QLoRA", 10.0))
}
assert tuple(TUNINGS) == get_args(TuningId)


def default_learning_rate(objective: str, tuning: str) -> float:
    """The peak learning rate of a recipe that names none."""
    # Ten times 2e-5 is 0.00019999999999999998 otherwise.
    return float(f"{OBJECTIVES[objective].learning_rate * TUNINGS[tuning].learning_rate_factor:.6g}")
