"""What each objective's trainer holds and runs, as far as memory is concerned: trl 1.16's code, one row each."""

from dataclasses import dataclass
from typing import Literal

from workbench.engine.errors import InputError


@dataclass(frozen=True, slots=True)
class ObjectiveMemory:
    """One objective as its trainer runs it.

    `sequences`: texts in a forward pass for each row of the batch; pairs are concatenated (DataCollatorForPreference).
    `loss`: what stands behind the last block by default: trl's chunked head, or one score a text.
    `reference`: whether full fine-tuning holds a second, frozen model; with PEFT the adapter is switched off instead
    (use_adapter). Its forward runs without gradients beside the kept activations of the trained model; it asks for less
    than the backward of a block, or of the loss, so it makes no moment of its own. The same holds of KTO's forward over
    mismatched answers, which runs first.
    `dropout`: whether adapters' dropout is active; where not, the trainer sets it to 0 (disable_dropout's default).
    """

    sequences: int = 1
    loss: Literal["fused", "score"] = "fused"
    reference: Literal["no", "yes", "beta"] = "no"
    dropout: bool = True


OBJECTIVES: dict[str, ObjectiveMemory] = {
    "sft": ObjectiveMemory(),
    "cpt": ObjectiveMemory(),
    "rt": ObjectiveMemory(sequences=2, reference="yes", dropout=False),
    "dpo": ObjectiveMemory(sequences=2, reference="yes", dropout=False),
    # This workbench's own, on transformers' Trainer with trl's chunked head (worker/objectives/orpo.py).
    "orpo": ObjectiveMemory(sequences=2),
    "kto": ObjectiveMemory(reference="yes", dropout=False),
    # AutoModelForSequenceClassification: a score layer [1, hidden] in place of the head.
    "reward": ObjectiveMemory(sequences=2, loss="score", dropout=False),
    "rlhf": ObjectiveMemory(reference="beta"),
}


def objective_of(name: str) -> ObjectiveMemory:
    """The row of an objective. Raises InputError for one that does not exist."""
    if name not in OBJECTIVES:
        raise InputError(f"objective = {name!r} is not known.", hint=f"Choose from {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]
