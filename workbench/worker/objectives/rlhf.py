"""Reinforcement learning from human feedback, the second step: answers are sampled, scored, and the better ones made
likelier, through trl's GRPOTrainer or RLOOTrainer."""

import math
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import add_fused_lm_head

from workbench.engine.objective_checks import answer_length, generations, kl_weight, reward_references
from workbench.engine.recipe import Recipe
from workbench.engine.rewards import reward_names
from workbench.worker.loading import pick_dtype
from workbench.worker.objectives.common import Rows, trl_trainer
from workbench.worker.rewards import LazyReward


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Rows,
                  held_out: Rows | None, device: torch.device, output_dir: str, callbacks: list[TrainerCallback],
                  reference: PreTrainedModel | None = None) -> GRPOTrainer | RLOOTrainer:
    """trl's trainer on rows of `prompt` and whatever columns the rewards ask for.

    Prompt and answer together are meant to have at most `max_length` tokens; prompts are not cut. Without
    `reference` trl loads the model once more where the KL term needs one.
    """
    own = recipe.rlhf
    columns = [name for name in next(iter(train)) if name != "prompt"]
    dtype = pick_dtype(recipe.training.dtype, device)
    references = reward_references(recipe)
    rewards = [LazyReward(reference, name, columns, device, dtype)
               for reference, name in zip(references, reward_names(references), strict=True)]
    count = generations(recipe)
    settings: dict[str, Any] = {
        "max_completion_length": answer_length(recipe), "num_generations": count, "temperature": own.temperature,
        "reward_weights": list(own.reward_weights) if own.reward_weights else None,
        # trl counts answers here, and wants whole groups of them.
        "per_device_eval_batch_size": math.ceil(recipe.training.per_device_eval_batch_size / count) * count,
        "beta": kl_weight(recipe) if reference is None else 0.0}
    kind, config = (RLOOTrainer, RLOOConfig) if own.algorithm == "rloo" else (GRPOTrainer, GRPOConfig)
    trainer: GRPOTrainer | RLOOTrainer = trl_trainer(
        kind, config, settings, recipe, model, tokenizer, train, held_out, device, output_dir,
        [_LoadRewards(rewards), *callbacks], reward_funcs=rewards or [_no_reward])
    if reference is not None:
        add_fused_lm_head(reference, temperature=trainer.temperature)
        trainer.ref_model = trainer.accelerator.prepare_model(reference, evaluation_mode=True)
        trainer.beta = trainer.args.beta = kl_weight(recipe)
    return trainer


class _LoadRewards(TrainerCallback):
    """What is wrong with a reward is said before the first step. Raises InputError."""

    def __init__(self, rewards: list[LazyReward]) -> None:
        self._rewards = rewards

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Load them all."""
        for reward in self._rewards:
            reward.load()


def _no_reward(completions: list[Any], **columns: Any) -> list[float]:
    """Where nothing scores: a rehearsal's construction, and the data's inspection. A plan without a reward is refused.
    """
    return [0.0] * len(completions)


EXAMPLE = {"prompt": "a"}
"""A row that the trainer takes, for a rehearsal's construction."""


def worst_case_batch(recipe: Recipe, trainer: GRPOTrainer | RLOOTrainer) -> dict[str, Any]:
    """The largest micro-batch of scored answers, as the trainer's rollouts leave it."""
    rows, answer = recipe.training.per_device_train_batch_size, answer_length(recipe)
    prompt = max(recipe.training.max_length - answer, 1)
    batch = {"prompt_ids": torch.ones(rows, prompt, dtype=torch.long),
             "prompt_mask": torch.ones(rows, prompt, dtype=torch.long),
             "completion_ids": torch.ones(rows, answer, dtype=torch.long),
             "completion_mask": torch.ones(rows, answer, dtype=torch.long),
             "advantages": torch.zeros(rows), "num_items_in_batch": torch.tensor(float(rows * answer))}
    if recipe.rlhf.algorithm == "rloo":
        batch["old_logps"] = torch.zeros(rows)
    elif trainer.beta:
        batch["ref_per_token_logps"] = torch.zeros(rows, answer)
    return batch


def scored_positions(recipe: Recipe, trainer: GRPOTrainer | RLOOTrainer) -> dict[tuple[int, ...], int]:
    """By the shape of the labels that trl's fused head compares: the positions of answers among them."""
    rows, answer = recipe.training.per_device_train_batch_size, answer_length(recipe)
    prompt = max(recipe.training.max_length - answer, 1)
    return {(rows, prompt + answer - 1): rows * answer}


def rollout(recipe: Recipe, trainer: GRPOTrainer | RLOOTrainer) -> None:
    """What sampling the answers of one optimizer step allocates: the prompts' forward pass, and the last token's.

    Between the two only the KV cache grows; transformers' generate keeps one for the whole generation batch.
    """
    rows, answer = trainer.args.generation_batch_size, answer_length(recipe)
    prompt = max(recipe.training.max_length - answer, 1)
    model = trainer.model_wrapped
    with torch.no_grad(), disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
        cache = DynamicCache(config=trainer.model.config.get_text_config())
        _next_token(model, cache, torch.ones(rows, prompt, dtype=torch.long), prompt)
        for layer in cache.layers:
            window = getattr(layer, "sliding_window", None) or prompt + answer
            length = min(prompt + answer - 2, window - 1)
            layer.keys = layer.keys.new_zeros((*layer.keys.shape[:2], length, layer.keys.shape[-1]))
            layer.values = layer.values.new_zeros((*layer.values.shape[:2], length, layer.values.shape[-1]))
        _next_token(model, cache, torch.ones(rows, 1, dtype=torch.long), prompt + answer - 1)


def _next_token(model: torch.nn.Module, cache: DynamicCache, ids: torch.Tensor, seen: int) -> torch.Tensor:
    """One pass of transformers' GenerationMixin._sample."""
    mask = torch.ones(len(ids), seen, dtype=torch.long)
    logits = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    scores = logits[:, -1].to(torch.float32, copy=True)
    return torch.multinomial(torch.softmax(scores, dim=-1), num_samples=1)
