"""Each training objective in a few lines: what it learns, its loss, and an example worked with that very loss."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import exp, log
from typing import Any

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.explain import losses
from workbench.engine.explain.document import Section, Table, plain, signed
from workbench.engine.objectives import OBJECTIVES, ObjectiveId

# The defaults of trl 1.16: DPOConfig.beta, KTOConfig.beta, GRPOConfig.epsilon; ORPOConfig calls lambda beta.
BETA = 0.1
ALPHA = 0.1
EPSILON = 0.2

# Probabilities that a model gives to the right token, in order: the first belong to the prompt.
_PROMPT, _ANSWER = (0.30, 0.10), (0.50, 0.80, 0.90)
# Summed log-probabilities of two answers under the model and under the frozen reference.
_CHOSEN, _REJECTED, _REF_CHOSEN, _REF_REJECTED = -12.0, -16.0, -14.0, -15.0
_REWARDS = (1.0, 0.0, 0.0, 1.0, 1.0)

Row = tuple[str, float]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One objective. `example` gives the words around it and its rows (what, value), the loss last."""

    learns: str
    formula: str
    example: Callable[[], tuple[str, tuple[Row, ...]]]


def _sft() -> tuple[str, tuple[Row, ...]]:
    return (f"The answer's {len(_ANSWER)} tokens got the probabilities {_numbers(_ANSWER)}; the prompt's do not count.",
            (("mean −log p", losses.cross_entropy(_ANSWER)),))


def _cpt() -> tuple[str, tuple[Row, ...]]:
    every = (*_PROMPT, *_ANSWER)
    return (f"{len(every)} tokens got the probabilities {_numbers(every)}; every one counts.",
            (("mean −log p", losses.cross_entropy(every)),))


def _pair(better: str, worse: str) -> tuple[str, tuple[Row, ...]]:
    loss = losses.dpo_loss(_CHOSEN, _REJECTED, _REF_CHOSEN, _REF_REJECTED, BETA)
    start = losses.dpo_loss(_REF_CHOSEN, _REF_REJECTED, _REF_CHOSEN, _REF_REJECTED, BETA)
    up, down = _CHOSEN - _REF_CHOSEN, _REJECTED - _REF_REJECTED
    return (f"log π of the {better} text is {plain(_CHOSEN)} (reference {plain(_REF_CHOSEN)}), of the {worse} one "
            f"{plain(_REJECTED)} (reference {plain(_REF_REJECTED)}); β = {BETA:g}.",
            ((f"{better}: log π − log π_ref", up), (f"{worse}: log π − log π_ref", down),
             (f"margin β·({better} − {worse})", BETA * (up - down)),
             ("loss before any step (log 2)", start), ("loss", loss)))


def _orpo() -> tuple[str, tuple[Row, ...]]:
    chosen, rejected = log(0.6), log(0.3)
    ratio = losses.log_odds_ratio(chosen, rejected)
    return (f"Mean probability a token: chosen {exp(chosen):g}, rejected {exp(rejected):g}; λ = {ALPHA:g}. "
            "No reference model. A row without a rejected answer has the first term alone.",
            (("NLL(chosen)", -chosen), ("log odds ratio", ratio),
             ("−log σ(log odds ratio)", -losses.log_sigmoid(ratio)),
             ("loss", losses.orpo_loss(chosen, rejected, ALPHA))))


def _kto() -> tuple[str, tuple[Row, ...]]:
    kl = 0.4
    return (f"log π − log π_ref: {plain(_CHOSEN - _REF_CHOSEN)} for a good answer, {plain(_REJECTED - _REF_REJECTED)} "
            f"for a bad one; KL = {kl:g}, β = {BETA:g}. The rows need not belong together.",
            (("loss of the good row", losses.kto_loss(_CHOSEN, _REF_CHOSEN, kl, BETA, True)),
             ("loss of the bad row", losses.kto_loss(_REJECTED, _REF_REJECTED, kl, BETA, False))))


def _reward() -> tuple[str, tuple[Row, ...]]:
    good, bad = 1.4, 0.2
    return (f"The model scores the chosen answer {good:g} and the rejected one {bad:g}.",
            (("P(chosen is better) = σ(difference)", losses.sigmoid(good - bad)),
             ("loss", losses.reward_loss(good, bad))))


def _rlhf() -> tuple[str, tuple[Row, ...]]:
    grpo, rloo = losses.group_advantages(_REWARDS), losses.leave_one_out_advantages(_REWARDS)
    ratio = 1.3
    return (f"{len(_REWARDS)} answers to one prompt earned {_numbers(_REWARDS)}. A token of the first has become "
            f"{ratio:g} times as likely; ε = {EPSILON:g} cuts that to {1 + EPSILON:g}.",
            (("advantage of a good answer, GRPO", grpo[0]), ("advantage of a bad answer, GRPO", grpo[1]),
             ("advantage of a good answer, RLOO", rloo[0]), ("advantage of a bad answer, RLOO", rloo[1]),
             ("loss of that token, GRPO", losses.clipped_policy_loss(ratio, grpo[0], EPSILON))))


LESSONS: dict[ObjectiveId, Lesson] = {
    "sft": Lesson(
        "To answer as the examples do. The prompt is read, not learned: only the assistant's tokens count.",
        "loss = mean over the answer's tokens of −log p(token | everything before it)", _sft),
    "cpt": Lesson(
        "The language and facts of raw text, by predicting every next token. No instructions needed.",
        "loss = mean over all tokens of −log p(token | everything before it)", _cpt),
    "rt": Lesson(
        "To prefer accepted over rejected texts whatever was asked: the preference loss with the empty prompt.",
        "loss = −log σ(β · [(log π(accepted) − log π_ref(accepted)) − (log π(rejected) − log π_ref(rejected))])",
        partial(_pair, "accepted", "rejected")),
    "dpo": Lesson(
        "To prefer the chosen answer to the rejected one more strongly than the frozen reference does, without a "
        "reward model. With LoRA and QLoRA the reference is the base with its adapter switched off.",
        "loss = −log σ(β · [(log π(chosen) − log π_ref(chosen)) − (log π(rejected) − log π_ref(rejected))])",
        partial(_pair, "chosen", "rejected")),
    "orpo": Lesson(
        "The chosen answer itself and its preference over the rejected one, in one stage and without a reference.",
        "loss = NLL(chosen) + λ · (−log σ(log [odds(chosen) / odds(rejected)])),  odds(p) = p / (1 − p)", _orpo),
    "kto": Lesson(
        "From single answers marked good or bad. A loss weighs as people weigh it: against a reference point, the KL.",
        "good: 1 − σ(β · (log π − log π_ref − KL));  bad: 1 − σ(β · (KL − (log π − log π_ref)))", _kto),
    "reward": Lesson(
        "A score for an answer, such that chosen ones score above rejected ones: the judge that step 2 trains against. "
        "The output head becomes a single number.",
        "loss = −log σ(score(chosen) − score(rejected))", _reward),
    "rlhf": Lesson(
        "To earn reward: the model answers each prompt several times, a reward model or function scores the answers, "
        "and those above their group's average become likelier.",
        "loss = −min(ρ·A, clip(ρ, 1 − ε, 1 + ε)·A) for each token,  ρ = π / π_old,  A = advantage in the group", _rlhf),
}


def objective_sections(objective: ObjectiveId, architecture: Architecture | None, name: str) -> list[Section]:
    """The lesson; for next-token losses also what guessing costs on this model's vocabulary, for scale."""
    lesson = LESSONS[objective]
    words, rows = lesson.example()
    table = Table(("", "VALUE"), tuple((what, signed(value)) for what, value in rows), (1,))
    parts: list[str | Table] = [words, table]
    if objective in ("sft", "cpt") and architecture is not None:
        vocabulary = architecture.vocab_size
        parts.append(f"For scale: guessing evenly among the {vocabulary:,} tokens of {name} costs log {vocabulary:,} = "
                     f"{log(vocabulary):.4f}.")
    return [
        Section("What it learns", (lesson.learns, f"Data: {OBJECTIVES[objective].data}.")),
        Section("Its loss", (lesson.formula,)),
        Section("Worked", tuple(parts)),
    ]


def objective_figures(objective: ObjectiveId) -> dict[str, Any]:
    """The numbers behind `objective_sections`."""
    lesson = LESSONS[objective]
    words, rows = lesson.example()
    return {"learns": lesson.learns, "data": OBJECTIVES[objective].data, "formula": lesson.formula,
            "example": {"given": words, "values": dict(rows)}}


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
