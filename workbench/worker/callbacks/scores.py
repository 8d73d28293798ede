"""A reward model's scores of the same held-out pairs, again and again while it learns."""

from itertools import islice
from typing import Any

from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.objectives import OBJECTIVES
from workbench.engine.recipe import Recipe
from workbench.worker.callbacks.samples import SamplesCallback, evaluating
from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.reporter import Reporter
from workbench.worker.rewards import scores

SHOWN = 6
"""Pairs that are scored each time."""


def samples_callback(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, reporter: Reporter,
                     stopwatch: Stopwatch) -> SamplesCallback:
    """What shows how the recipe's model changes: its answers, its continuations of a text, or its scores."""
    objective = OBJECTIVES[recipe.objective]
    kind = SamplesCallback if objective.generates else ScoresCallback
    return kind(recipe.samples, tokenizer, reporter, stopwatch, recipe.training.seed, objective.conversational)


class ScoresCallback(SamplesCallback):
    """In the place of samples: a reward model writes no text, so prompts of the recipe are not asked. What is shown is
    what it thinks of some held-out answers, the chosen one above the rejected one; without held-out pairs, of the first
    ones it is trained on: `rows`, in their order."""

    def _ask(self, model: PreTrainedModel) -> tuple[list[str], list[str]]:
        answers = [(side, pair[side]) for pair in islice(self.rows, SHOWN) for side in ("chosen", "rejected")]
        with evaluating(model):
            found = scores(model, self._tokenizer, [answer for _, answer in answers])
        return ([_shown(answer) for _, answer in answers],
                [f"{score:+.3f}  ({side})" for (side, _), score in zip(answers, found, strict=True)])


def _shown(conversation: Any) -> str:
    if isinstance(conversation, str):
        return conversation
    return "\n".join(message["content"] for message in conversation)
