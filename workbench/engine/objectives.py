"""The training objectives: what is learned, from what data."""

from dataclasses import dataclass
from typing import Literal, get_args

ObjectiveId = Literal["sft", "cpt", "rt", "dpo", "orpo", "kto", "reward", "rlhf"]


@dataclass(frozen=True)
class Objective:
    """One objective: `id` as in a recipe, `title` as on screen, the data it needs, whether it can be trained yet."""

    id: ObjectiveId
    title: str
    data: str
    trainable: bool = False


OBJECTIVES: dict[str, Objective] = {
    objective.id: objective
    for objective in (
        Objective("sft", "Supervised fine-tuning", "messages, or prompt + completion", trainable=True),
        Objective("cpt", "General fine-tuning (continued pre-training)", "plain text"),
        Objective("rt", "Response tuning", "accepted + rejected text, no prompt"),
        Objective("dpo", "Direct preference optimisation", "prompt + chosen + rejected"),
        Objective("orpo", "Odds-ratio preference optimisation", "pairs and plain demonstrations, mixed"),
        Objective("kto", "Kahneman–Tversky optimisation", "prompt + completion + good/bad label"),
        Objective("reward", "Reward model (RLHF, step 1)", "chosen + rejected, prompt optional"),
        Objective("rlhf", "Reinforcement learning from human feedback (step 2)", "prompts only"),
    )
}
assert tuple(OBJECTIVES) == get_args(ObjectiveId)
