"""The settings of single objectives; trl's names where trl has one."""

from typing import Annotated, Literal

from pydantic import Field

from workbench.engine.recipe_section import LARGEST, Positive, Section, Strings

NotNegative = Annotated[float, Field(ge=0)]


class DpoSettings(Section):
    """Direct preference optimisation, and response tuning."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """How strongly the model is held to where it began: higher stays closer."""
    loss_type: Literal["sigmoid", "hinge", "ipo", "robust", "apo_zero", "apo_down"] = "sigmoid"
    """The loss on the margin; sigmoid is DPO's own."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """The share of pairs taken to be the wrong way round."""


class OrpoSettings(Section):
    """Odds-ratio preference optimisation."""

    orpo_alpha: NotNegative = 0.1
    """Weight of the odds ratio beside the likelihood of the chosen answer (lambda in the paper)."""


class KtoSettings(Section):
    """Kahneman–Tversky optimisation."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """How strongly the model is held to where it began: higher stays closer."""
    desirable_weight: NotNegative = 1.0
    """Weight of good answers; raise it when they are the fewer."""
    undesirable_weight: NotNegative = 1.0
    """Weight of bad answers; raise it when they are the fewer."""


class RewardSettings(Section):
    """Reward model."""

    center_rewards_coefficient: NotNegative | None = None
    """Pull of the rewards towards a mean of zero (0.01 is a good start); null: none."""


class RlhfSettings(Section):
    """Reinforcement learning from human feedback."""

    algorithm: Literal["grpo", "rloo"] = "grpo"
    """How answers to one prompt are compared: GRPO, or RLOO (leave one out)."""
    reward: str | Strings | None = None
    """What scores an answer: a reward run or folder, `module:function`, exact-match, regex:PATTERN, length:CHARACTERS
    or json; several are added up."""
    reward_weights: Annotated[tuple[float, ...], Field(strict=False)] | None = None
    """The weight of each reward, when there are several."""
    num_generations: Annotated[int, Field(ge=2, le=LARGEST)] | None = None
    """Answers per prompt; default: up to 8, as the batch divides."""
    max_completion_length: Positive | None = None
    """Tokens an answer may have; default: 256, or half of max_length."""
    beta: NotNegative | None = None
    """Weight of the KL term that holds the model to where it began; default: 0 for grpo, 0.05 for rloo."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """How freely answers are sampled while training."""
