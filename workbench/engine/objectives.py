"""The training objectives: what is learned, from what data, how fast by default, and which curves tell how it goes."""

from dataclasses import dataclass
from typing import Literal, get_args

ObjectiveId = Literal["sft", "cpt", "rt", "dpo", "orpo", "kto", "reward", "rlhf"]


@dataclass(frozen=True)
class Objective:
    """One objective: `id` as in a recipe, `title` as on screen, the data it needs.

    `learning_rate` is for training all weights; `engine.tuning` derives the adapters' from it. `charts` are the metrics
    to look at first, by their full names in the journal.
    """

    id: ObjectiveId
    title: str
    data: str
    learning_rate: float
    charts: tuple[str, ...]

    @property
    def generates(self) -> bool:
        """Whether the trained model writes text; a reward model gives a score."""
        return self.id != "reward"

    @property
    def conversational(self) -> bool:
        """Whether it learns turns of a conversation; general and response tuning learn bare text."""
        return self.id not in ("cpt", "rt")


_PAIRS = ("train/loss", "train/rewards/margins", "train/rewards/accuracies", "train/logps/chosen")

# Learning rates: the defaults of trl 1.16's config classes (SFTConfig, DPOConfig, KTOConfig, RewardConfig, GRPOConfig
# and RLOOConfig), and of its experimental ORPOConfig; general fine-tuning has SFTTrainer's, response tuning
# DPOTrainer's.
OBJECTIVES: dict[str, Objective] = {
    objective.id: objective
    for objective in (
        Objective("sft", "Supervised fine-tuning", "messages, or prompt + completion", 2e-5,
                  ("train/loss", "train/mean_token_accuracy", "train/entropy")),
        Objective("cpt", "General fine-tuning (continued pre-training)", "plain text", 2e-5,
                  ("train/loss", "train/mean_token_accuracy", "train/entropy")),
        Objective("rt", "Response tuning", "accepted + rejected text, no prompt", 1e-6, _PAIRS),
        Objective("dpo", "Direct preference optimisation", "prompt + chosen + rejected", 1e-6, _PAIRS),
        Objective("orpo", "Odds-ratio preference optimisation", "pairs and plain demonstrations, mixed", 1e-6,
                  ("train/loss", "train/log_odds", "train/rewards/accuracies", "train/nll_loss")),
        Objective("kto", "Kahneman–Tversky optimisation", "prompt + completion + good/bad label", 1e-6,
                  ("train/loss", "train/rewards/margins", "train/kl", "train/rewards/chosen")),
        Objective("reward", "Reward model (RLHF, step 1)", "chosen + rejected, prompt optional", 1e-4,
                  ("train/loss", "train/accuracy", "train/margin", "train/mean_reward")),
        Objective("rlhf", "Reinforcement learning from human feedback (step 2)", "prompts only", 1e-6,
                  ("train/reward", "train/reward_std", "train/completions/mean_length", "train/entropy", "train/kl")),
    )
}
assert tuple(OBJECTIVES) == get_args(ObjectiveId)
