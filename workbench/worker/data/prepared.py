"""Rows as the run's own trainer prepares and collates them: its tokens, and which of them are learned.

Nothing is done over here: the objective's trainer is built with the real tokenizer on a model of a few numbers, and
what it made of the rows is read out of its dataset and its collator.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset, Features, Value
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.errors import InputError
from workbench.engine.recipe import Recipe
from workbench.engine.text import one_line
from workbench.worker.data.features import features_of
from workbench.worker.objectives import objective_module

ROW = "__row__"
"""The column that tells which row it was: trl drops rows without a word."""

# Longer than any row: a slice to here takes all of it.
_UNCUT = 1 << 30
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """What the model reads at once: `ids`, and for each whether it is learned.

    `side` tells the answers of a preference row apart: chosen, rejected; good, bad. None where there is one sequence.
    """

    side: str | None
    ids: list[int]
    trained: list[bool]


Prepared = dict[int, tuple[TokenSequence, ...]]
"""By a row's place in what was given: its sequences. A row that the trainer drops is not in it."""


def prepare(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]],
            cut: bool = True) -> Prepared:
    """Canonical examples as the trainer takes them; uncut: as if `max_length` were endless.

    Packing is left out, which joins rows without changing them. Raises InputError where the trainer refuses.
    """
    length = recipe.training.max_length if cut else _UNCUT
    trainer = stand_in_trainer(recipe, tokenizer, examples, length)
    if recipe.objective == "rlhf":
        prompts = [row["prompt"] for row in trainer.train_dataset]
        # Rollouts ask the trainer for a prompt's tokens; before one there is nothing to learn.
        return {place: (TokenSequence(None, list(ids), [False] * len(ids)),)
                for place, ids in enumerate(trainer._tokenize_prompts(prompts)[0])}
    return {row[ROW]: _sequences(recipe.objective, trainer.data_collator([row]), row) for row in trainer.train_dataset}


@dataclass(frozen=True, slots=True)
class PackedSequence:
    """Several rows in one sequence: where each starts, and what is learned, across them."""

    ids: list[int]
    trained: list[bool]
    starts: tuple[int, ...]


def pack(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]]
         ) -> Iterator[PackedSequence]:
    """The same rows as `training.packing` joins them; for objectives that pack (sft, cpt)."""
    trainer = stand_in_trainer(recipe, tokenizer, examples, recipe.training.max_length, packing=True)
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
        yield PackedSequence(batch["input_ids"][0].tolist(), (batch["labels"][0] != -100).tolist(), tuple(starts))


def stand_in_trainer(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]],
                     max_length: int, packing: bool = False) -> Any:
    """The objective's own trainer with these rows, on a model that stands in for the recipe's."""
    module = objective_module(recipe.objective)
    features = features_of(recipe.objective, examples[0])
    rows = Dataset.from_list([{**{name: row[name] for name in features}, ROW: place}
                              for place, row in enumerate(examples)],
                             features=Features({**features, ROW: Value("int64")}))
    extra = {"reference": _stand_in(tokenizer)} if getattr(module, "NEEDS_REFERENCE", False) else {}
    model = _stand_in(tokenizer, rewards=recipe.objective == "reward")
    with tempfile.TemporaryDirectory() as folder:
        try:
            return module.build_trainer(_simplest(recipe, max_length, packing), model, tokenizer, rows, None, _CPU,
                                        folder, [], **extra)
        except ValueError as error:
            raise InputError(f"The trainer refuses this recipe: {one_line(str(error), 300)}") from error


def _simplest(recipe: Recipe, max_length: int, packing: bool) -> Recipe:
    """The recipe with everything left out that has nothing to do with the rows."""
    training = recipe.training.model_copy(update={
        "max_length": max_length, "packing": packing, "gradient_checkpointing": False, "dtype": "float32",
        "bf16": False, "optim": "adamw_torch", "load_best_model_at_end": False, "early_stopping_patience": None})
    # A reward of the user's own could be a model, or code: neither is wanted to look at prompts.
    rlhf = recipe.rlhf.model_copy(update={"reward": None, "reward_weights": None, "beta": 0.0})
    return recipe.model_copy(update={"tuning": "full", "training": training, "rlhf": rlhf})


def _stand_in(tokenizer: PreTrainedTokenizerBase, rewards: bool = False) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=2, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, tie_word_embeddings=True, num_labels=1 if rewards else 2,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    kind = AutoModelForSequenceClassification if rewards else AutoModelForCausalLM
    model: PreTrainedModel = kind.from_config(config)
    return model


def _sequences(objective: str, batch: dict[str, Any], row: dict[str, Any]) -> tuple[TokenSequence, ...]:
    """One row's batch, taken apart: padding removed."""
    attended = batch["attention_mask"].bool()
    if "labels" in batch:
        trained, sides = batch["labels"] != -100, (None,)
    elif objective == "reward":
        # The score is read at the last token, and through it the loss.
        trained = torch.zeros_like(attended)
        trained[torch.arange(len(attended)), attended.sum(dim=1) - 1] = True
        sides = ("chosen", "rejected")
    else:
        trained = batch["completion_mask"].bool()
        sides = (("good" if row["label"] else "bad"),) if objective == "kto" else ("chosen", "rejected")
    if objective == "orpo":
        # The likelihood of a chosen answer is taken together with its prompt's; of a rejected one, only the answer's.
        trained[0] = attended[0]
    return tuple(TokenSequence(side, ids[mask].tolist(), learned[mask].tolist())
                 for side, ids, mask, learned in zip(sides, batch["input_ids"], attended, trained, strict=False))
