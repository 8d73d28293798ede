"""Prompts with their answers as token ids: the tokens of an answer are those that follow what both renderings share."""

from typing import Any

from datasets import Features, Sequence, Value
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.worker.objectives.common import Rows

_COLUMNS = ["prompt", "chosen", "rejected"]
_IDS = Features({name: Sequence(Value("int64")) for name in ("prompt_ids", "chosen_ids", "rejected_ids")})


def tokenized_pairs(rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Rows:
    """Rows of `prompt_ids`, `chosen_ids` and `rejected_ids` (null for a demonstration), of messages or of plain text.

    Rows whose prompt alone fills `max_length` are left out, as by trl's trainers: nothing of an answer would be left.
    """
    kept = {name: kind for name, kind in (rows.features or {}).items() if name not in _COLUMNS}
    tokenized = rows.map(lambda row: _pair(row, tokenizer), remove_columns=_COLUMNS,
                         features=Features({**kept, **_IDS}))
    return tokenized.filter(lambda row: len(row["prompt_ids"]) < max_length)


def _pair(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int] | None]:
    prompt = _render(tokenizer, row["prompt"], add_generation_prompt=True)
    whole = {name: _with_end(tokenizer, _render(tokenizer, row["prompt"] + row[name]), len(prompt))
             for name in ("chosen", "rejected") if row.get(name)}
    # A template may render the prompt alone otherwise than before an answer: the answer begins where they part.
    shared = min(_shared(prompt, ids) for ids in whole.values())
    answers = {f"{name}_ids": ids[shared:] for name, ids in whole.items()}
    return {"prompt_ids": prompt[:shared], "rejected_ids": None, **answers}


def _render(tokenizer: PreTrainedTokenizerBase, text: Any, add_generation_prompt: bool = False) -> list[int]:
    if isinstance(text, str):
        ids: list[int] = tokenizer(text)["input_ids"]
        return ids
    rendered: list[int] = tokenizer.apply_chat_template(text, tokenize=True, return_dict=True,
                                                        add_generation_prompt=add_generation_prompt)["input_ids"]
    return rendered


def _with_end(tokenizer: PreTrainedTokenizerBase, ids: list[int], prompt_length: int) -> list[int]:
    """The model learns to stop only where an answer says that it ends; templates that do not, get EOS behind it."""
    return ids if tokenizer.eos_token_id in ids[prompt_length:] else [*ids, tokenizer.eos_token_id]


def _shared(ids: list[int], others: list[int]) -> int:
    return next((place for place, (one, other) in enumerate(zip(ids, others, strict=False)) if one != other),
                min(len(ids), len(others)))
