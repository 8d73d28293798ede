"""Reinforcement learning from human feedback, the second step: answers are sampled, scored, and the better ones made
likelier, through trl's GRPOTrainer."""

from typing import Any

import torch
from datasets import Dataset
from transformers import DynamicCache, PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing

from workbench.engine.recipe import Recipe
from workbench.worker.objectives.common import trl_trainer


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Dataset,
                  held_out: Dataset | None, device: torch.device, output_dir: str,
                  callbacks: list[TrainerCallback]) -> GRPOTrainer:
    """trl's trainer on rows of `prompt`; prompt and answer together have at most `max_length` tokens."""
    settings = {"max_completion_length": answer_length(recipe), "num_generations": generations(recipe)}
    trainer: GRPOTrainer = trl_trainer(GRPOTrainer, GRPOConfig, settings, recipe, model, tokenizer, train, held_out,
                                      device, output_dir, callbacks, reward_funcs=_answer_length)
    return trainer


def answer_length(recipe: Recipe) -> int:
    """Tokens an answer may have: trl's default of 256, or half of a shorter `max_length`."""
    return min(256, max(recipe.training.max_length // 2, 1))


def generations(recipe: Recipe) -> int:
    """Answers per prompt: the most, up to trl's default of 8, that the answers of one step can be divided by."""
    return max(number for number in range(1, 9) if recipe.effective_batch_size % number == 0)


def _answer_length(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(answer)) for answer in completions]


EXAMPLE = {"prompt": "a"}
"""A row that the trainer takes, for a rehearsal's construction."""


def worst_case_batch(recipe: Recipe, trainer: GRPOTrainer) -> dict[str, Any]:
    """The largest micro-batch of scored answers, as the trainer's rollouts leave it."""
    rows, answer = recipe.training.per_device_train_batch_size, answer_length(recipe)
    prompt = max(recipe.training.max_length - answer, 1)
    return {"prompt_ids": torch.ones(rows, prompt, dtype=torch.long),
            "prompt_mask": torch.ones(rows, prompt, dtype=torch.long),
            "completion_ids": torch.ones(rows, answer, dtype=torch.long),
            "completion_mask": torch.ones(rows, answer, dtype=torch.long),
            "advantages": torch.zeros(rows), "num_items_in_batch": torch.tensor(float(rows * answer))}


def scored_positions(recipe: Recipe, trainer: GRPOTrainer) -> dict[tuple[int, ...], int]:
    """By the shape of the labels that trl's fused head compares: the positions of answers among them."""
    rows, answer = recipe.training.per_device_train_batch_size, answer_length(recipe)
    prompt = max(recipe.training.max_length - answer, 1)
    return {(rows, prompt + answer - 1): rows * answer}


def rollout(recipe: Recipe, trainer: GRPOTrainer) -> None:
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
