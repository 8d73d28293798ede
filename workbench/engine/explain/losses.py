"""The losses of the training objectives, in plain Python on single examples: natural logarithms throughout."""

from collections.abc import Sequence
from math import exp, expm1, log, log1p
from statistics import mean, stdev


def sigmoid(value: float) -> float:
    """1 / (1 + e^−x), without overflow."""
    return 1 / (1 + exp(-value)) if value >= 0 else exp(value) / (1 + exp(value))


def log_sigmoid(value: float) -> float:
    """log σ(x), without overflow."""
    return -log1p(exp(-value)) if value >= 0 else value - log1p(exp(value))


def cross_entropy(probabilities: Sequence[float]) -> float:
    """Mean negative log-likelihood of the tokens that were right, given the probability each was assigned."""
    return -mean(map(log, probabilities))


def dpo_loss(chosen: float, rejected: float, ref_chosen: float, ref_rejected: float, beta: float) -> float:
    """Direct preference optimisation (Rafailov et al., arXiv 2305.18290, eq. 7), of summed log-probabilities."""
    return -log_sigmoid(beta * ((chosen - ref_chosen) - (rejected - ref_rejected)))


def log_odds_ratio(chosen: float, rejected: float) -> float:
    """log(odds(chosen) / odds(rejected)), odds(p) = p / (1 − p), of mean log-probabilities below 0 (ORPO, eq. 4)."""
    return (chosen - rejected) - (log(-expm1(chosen)) - log(-expm1(rejected)))


def orpo_loss(chosen: float, rejected: float, alpha: float) -> float:
    """Odds-ratio preference optimisation (Hong et al., arXiv 2403.07691, eq. 6), of mean log-probabilities."""
    return -chosen - alpha * log_sigmoid(log_odds_ratio(chosen, rejected))


def kto_loss(policy: float, reference: float, kl: float, beta: float, desirable: bool) -> float:
    """Kahneman–Tversky optimisation of one row (Ethayarajh et al., arXiv 2402.01306, eq. 7 and 8), weights of 1.

    `kl` is the batch's estimate of how far the model has moved from the reference, in nats, not below 0.
    """
    gain = beta * (policy - reference - max(kl, 0.0))
    return 1 - sigmoid(gain if desirable else -gain)


def reward_loss(chosen: float, rejected: float) -> float:
    """The Bradley–Terry loss of two scores (trl RewardTrainer)."""
    return -log_sigmoid(chosen - rejected)


def group_advantages(rewards: Sequence[float]) -> list[float]:
    """GRPO's advantages of the answers to one prompt (arXiv 2402.03300): (r − mean) / (sample deviation + 1e-4)."""
    spread = stdev(rewards)
    return [(reward - mean(rewards)) / (spread + 1e-4) for reward in rewards]


def leave_one_out_advantages(rewards: Sequence[float]) -> list[float]:
    """RLOO's advantages (arXiv 2402.14740): each reward minus the mean of the others."""
    return [reward - (sum(rewards) - reward) / (len(rewards) - 1) for reward in rewards]


def clipped_policy_loss(ratio: float, advantage: float, epsilon: float) -> float:
    """The clipped surrogate of one token: −min(ratio · A, clip(ratio, 1 − ε, 1 + ε) · A)."""
    return -min(ratio * advantage, min(max(ratio, 1 - epsilon), 1 + epsilon) * advantage)
