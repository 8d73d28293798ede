"""What an objective asks of a recipe beyond types: said before anything is loaded."""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.recipe import Recipe
from workbench.engine.rewards import reward_source

MOST_GENERATIONS = 8
"""Answers per prompt when a recipe names no number: GRPOConfig's default in trl 1.16."""
Problem = tuple[str, str, str | None]


def objective_problems(recipe: Recipe, base_dir: Path | None) -> Iterator[Problem]:
    """(field, sentence, hint) for everything that would make the recipe's trainer refuse, or train nothing."""
    if recipe.objective in ("dpo", "rt"):
        own = recipe.dpo if recipe.objective == "dpo" else recipe.rt
        if own.label_smoothing and own.loss_type != "robust":
            yield (f"{recipe.objective}.label_smoothing", f"The {own.loss_type} loss does not smooth its labels.",
                   f"Set {recipe.objective}.loss_type to robust, or label_smoothing to 0.")
    if recipe.objective == "kto" and recipe.training.per_device_train_batch_size < 2:
        yield ("training.per_device_train_batch_size", "Kahneman–Tversky optimisation needs two rows in a batch: it "
               "estimates the KL term from answers swapped between them.", "Set it to 2 or more.")
    if recipe.objective == "rlhf":
        yield from _rlhf(recipe, base_dir)


def generations(recipe: Recipe) -> int:
    """Answers per prompt: the recipe's, else the most up to 8 that the answers of one step can be divided by."""
    if recipe.rlhf.num_generations is not None:
        return recipe.rlhf.num_generations
    return max(number for number in range(1, MOST_GENERATIONS + 1) if recipe.effective_batch_size % number == 0)


def planned_steps(recipe: Recipe, rows: int | None) -> int | None:
    """Optimizer steps on one device, as transformers counts them; None while the rows are unknown or packed."""
    training = recipe.training
    if training.max_steps > 0:
        return training.max_steps
    if rows is None or training.packing:
        return None
    return math.ceil(training.num_train_epochs * steps_per_epoch(recipe, rows))


def steps_per_epoch(recipe: Recipe, rows: int) -> int:
    """Optimizer steps on one device that take `rows` (or packed sequences) in once, as transformers counts them.

    In reinforcement learning a batch counts answers, several to a prompt; prompts that fill no step are left out.
    """
    training = recipe.training
    if recipe.objective == "rlhf":
        return max(rows * generations(recipe) // recipe.effective_batch_size, 1)
    batches = math.ceil(rows / training.per_device_train_batch_size)
    return max(math.ceil(batches / training.gradient_accumulation_steps), 1)


def too_few_prompts(recipe: Recipe, rows: int) -> Iterator[Problem]:
    """(field, sentence, hint) where reinforcement learning cannot fill a single step: trl leaves the rest out."""
    prompts = recipe.effective_batch_size // generations(recipe)
    if recipe.objective == "rlhf" and rows < prompts:
        yield ("training.per_device_train_batch_size",
               f"A step asks {prompts:,} prompts ({recipe.effective_batch_size:,} answers, {generations(recipe)} to "
               f"each), and there are {rows:,}.",
               "Lower training.per_device_train_batch_size or gradient_accumulation_steps, or raise "
               "rlhf.num_generations.")


def answer_length(recipe: Recipe) -> int:
    """Tokens an answer may have: the recipe's, else 256, or half of a shorter `max_length`."""
    return recipe.rlhf.max_completion_length or min(256, max(recipe.training.max_length // 2, 1))


def reward_parameters(recipe: Recipe, base_dir: Path | None) -> int:
    """Parameters of the reward models beside the trained one; those that cannot be found count nothing, the plan says
    why."""
    if recipe.objective != "rlhf":
        return 0
    total = 0
    for reference in reward_references(recipe):
        with suppress(InputError):
            source = reward_source(reference, base_dir)
            if source.kind == "model":
                total += architecture_from_config(resolve_model(str(source.path)).config).parameters
    return total


def kl_weight(recipe: Recipe) -> float:
    """The weight of the KL term: the recipe's, else trl 1.16's default, 0.05 for RLOO and none for GRPO."""
    if recipe.rlhf.beta is not None:
        return recipe.rlhf.beta
    return 0.05 if recipe.rlhf.algorithm == "rloo" else 0.0


def label_imbalance(recipe: Recipe, good: int, bad: int) -> str | None:
    """What the user should know of so many good and bad answers under KTO's weights; None where they are in balance.

    Eq. (8) of the KTO paper (arXiv 2402.01306): good answers should count 1 to 4/3 times as much as bad ones together;
    here bad ones may do so, too.
    """
    if not good or not bad:
        there, lacking = ("good", "bad") if good else ("bad", "good")
        return (f"All {good + bad:,} answers are {there} ones: without {lacking} ones beside them the model only "
                "drifts from where it began.")
    up, down = good * recipe.kto.desirable_weight, bad * recipe.kto.undesirable_weight
    if up and down and 3 / 4 <= up / down <= 4 / 3:
        return None
    name, weight = ("desirable_weight", down / good) if good < bad else ("undesirable_weight", up / bad)
    way_out = f"kto.{name}: {weight:.3g} would balance them" if weight else "a weight of zero leaves one kind out"
    return f"{good:,} good answers count {up:,.4g}, {bad:,} bad ones {down:,.4g}: {way_out}."


def _rlhf(recipe: Recipe, base_dir: Path | None) -> Iterator[Problem]:
    settings = recipe.rlhf
    rewards = reward_references(recipe)
    if not rewards:
        yield ("rlhf.reward", "Reinforcement learning needs something that scores the answers.",
               "Set rlhf.reward to a reward run, module:function, exact-match, regex:PATTERN, length:CHARACTERS or "
               "json.")
    for reference in rewards:
        try:
            reward_source(reference, base_dir)
        except InputError as error:
            yield "rlhf.reward", error.message, error.hint
    if settings.reward_weights is not None and len(settings.reward_weights) != len(rewards):
        yield ("rlhf.reward_weights", f"There are {len(settings.reward_weights)} weights for {len(rewards)} rewards.",
               "Give each reward one weight, in the same order.")
    count, batch = generations(recipe), recipe.effective_batch_size
    if count < 2 or batch % count:
        yield ("rlhf.num_generations", f"The {batch} answers of a step cannot be divided into groups of "
               f"{max(count, 2)} to one prompt.",
               "Make per_device_train_batch_size × gradient_accumulation_steps a multiple of it.")
    if answer_length(recipe) >= recipe.training.max_length:
        yield ("rlhf.max_completion_length", f"Answers of {answer_length(recipe)} tokens leave no room for a prompt in "
               f"max_length = {recipe.training.max_length}.", "Raise training.max_length, or shorten the answers.")


def reward_references(recipe: Recipe) -> tuple[str, ...]:
    """The entries of `rlhf.reward`, none, one or several."""
    reward = recipe.rlhf.reward
    return () if reward is None else (reward,) if isinstance(reward, str) else tuple(reward)
