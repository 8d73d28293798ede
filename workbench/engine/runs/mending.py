"""What to change in a recipe so that a run goes on where it died: settings that leave it the same run."""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from workbench.engine.recipe import Recipe

Moment = Literal["loading", "probe", "training", "evaluation", "sampling", "saving"]

LESS_MEMORY = ("Halve training.per_device_train_batch_size and double gradient_accumulation_steps, "
               "shorten training.max_length, or use tuning: qlora.")
_SHORTEST_ROWS, _SHORTEST_ANSWERS = 128, 16
_LEARNING_RATE_DIVISOR = 3

# Functions and files of a traceback that tell what a run was doing; the innermost decides.
_MOMENTS: tuple[tuple[Moment, re.Pattern[str]], ...] = (
    ("sampling", re.compile(r"callbacks/samples\.py|in GENERATION\b|in generation of the longest rows")),
    ("evaluation", re.compile(r"in (evaluate|evaluation_loop|prediction_step|_evaluate)\b"
                              r"|in evaluation of the longest rows")),
    ("saving", re.compile(r"in (write_complete|save_final|save_model|_save_checkpoint)\b")),
    ("training", re.compile(r"in (training_step|_inner_training_loop|_micro_batch|backward)\b"
                            r"|in (forward and backward|optimizer step) of the longest rows")),
    ("loading", re.compile(r"in (from_pretrained|load_model|_load_model|load_tokenizer|start_from)\b")),
)


@dataclass(frozen=True, slots=True)
class Mending:
    """`changes` are dotted settings and the values that would mend the run; `words` say so, and what else could."""

    words: str
    changes: dict[str, Any] = field(default_factory=dict)


def moment_of(traceback: str) -> Moment | None:
    """What the run was doing, by its traceback or the words of the memory probe; None where neither says."""
    for line in reversed(traceback.splitlines()):
        for moment, pattern in _MOMENTS:
            if pattern.search(line):
                return moment
    return None


def mend(symptom: str, recipe: "Recipe | None", moment: Moment | None) -> Mending | None:
    """What mends a symptom in this recipe; None where only the symptom's own fix is known."""
    if symptom in ("gpu-memory", "host-memory"):
        return _less_memory(recipe, moment)
    if recipe is None:
        return None
    if symptom == "nan":
        return _calmer(recipe)
    if symptom == "flash-attention":
        return Mending("sdpa is torch's own kernel and needs nothing; or install flash-attn.",
                       {"training.attn_implementation": "sdpa"})
    if symptom.startswith("disk-") and symptom not in ("disk-read-only", "disk-broken") \
            and recipe.training.save_total_limit > 1:
        return Mending("Free some space, then go on; keeping only the newest checkpoint needs less of it.",
                       {"training.save_total_limit": 1})
    return None


def _less_memory(recipe: "Recipe | None", moment: Moment | None) -> Mending:
    if recipe is None:
        return Mending(LESS_MEMORY)
    training = recipe.training
    if moment == "loading":
        smaller = "a smaller model" if recipe.tuning == "qlora" else "tuning: qlora, or a smaller model"
        return Mending(f"The weights alone do not fit, which no batch size changes. Free memory, or train anew with "
                       f"{smaller}.")
    if moment == "evaluation" and training.per_device_eval_batch_size > 1:
        half = training.per_device_eval_batch_size // 2
        return Mending(f"Evaluate {half} rows at once in place of {training.per_device_eval_batch_size}; no result "
                       "changes.", {"training.per_device_eval_batch_size": half})
    if moment == "sampling" and recipe.samples.max_new_tokens > _SHORTEST_ANSWERS:
        half = max(recipe.samples.max_new_tokens // 2, _SHORTEST_ANSWERS)
        return Mending(f"Shorter samples, of {half} tokens; or fewer samples.prompts.",
                       {"samples.max_new_tokens": half})
    return _smaller_batch(recipe) or _recomputed(recipe) or _shorter_rows(recipe) or _another_run(recipe)


def _smaller_batch(recipe: "Recipe") -> Mending | None:
    """The batch by its smallest prime factor, so that accumulation keeps the rows of a step. KTO estimates its KL term
    within a micro-batch: with a smaller one it would be another training."""
    training = recipe.training
    batch, accumulation = training.per_device_train_batch_size, training.gradient_accumulation_steps
    factor = next((n for n in range(2, batch + 1) if batch % n == 0), None)
    if factor is None or recipe.objective == "kto":
        return None
    smaller, more = batch // factor, accumulation * factor
    return Mending(f"Micro-batches of {smaller} in place of {batch}, {more} a step in place of {accumulation}: the "
                   f"same {recipe.effective_batch_size} rows.",
                   {"training.per_device_train_batch_size": smaller, "training.gradient_accumulation_steps": more})


def _recomputed(recipe: "Recipe") -> Mending | None:
    if recipe.training.gradient_checkpointing:
        return None
    return Mending("Recompute activations in the backward pass: much less memory, about a third slower.",
                   {"training.gradient_checkpointing": True})


def _shorter_rows(recipe: "Recipe") -> Mending | None:
    """Of packed rows the length decides what is in a row: that would be another run."""
    length = recipe.training.max_length // 2
    if recipe.training.packing or length < _SHORTEST_ROWS:
        return None
    return Mending(f"Rows of at most {length:,} tokens in place of {recipe.training.max_length:,}: longer ones are "
                   "cut.", {"training.max_length": length})


def _another_run(recipe: "Recipe") -> Mending:
    cheaper = {"full": "tuning: lora or qlora", "lora": "tuning: qlora"}.get(recipe.tuning, "a smaller model")
    return Mending(f"The run is as small as it gets without becoming another one: train anew with {cheaper}.")


def _calmer(recipe: "Recipe") -> Mending:
    rate = float(f"{recipe.learning_rate / _LEARNING_RATE_DIVISOR:.2g}")
    changes: dict[str, Any] = {"training.learning_rate": rate}
    words = f"Lower the learning rate from {recipe.learning_rate:g} to {rate:g}, and go on from before it happened."
    if not recipe.training.max_grad_norm:
        changes["training.max_grad_norm"] = 1.0
        words += " Gradients were not clipped: scale them down to a norm of 1."
    if recipe.training.dtype == "float16":
        words += " float16 overflows above 65,504: with dtype: bfloat16, as a new run, it may not come again."
    return Mending(words, changes)
