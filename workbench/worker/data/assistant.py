"""The assistant's tokens of a conversation, for chat templates that do not mark them.

trl marks them in the templates it knows by heart and refuses all others. For those, a conversation is rendered up to
each answer and behind it, and what lies between the two is the answer; it is checked that these are really pieces of
the whole, and that the answer is in them.
"""

from collections.abc import Callable
from typing import Any

from datasets import Dataset, IterableDataset
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from workbench.engine.data.sources import DataError

IGNORED = -100
_HINT = "Set data.chat_template (chatml, llama-3, alpaca, plain), or training.assistant_only_loss: false."

Messages = list[dict[str, Any]]


def marks_answers(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether trl can tell the assistant's tokens: the template marks them, or trl has a version of it that does."""
    if has_generation_markers(tokenizer.chat_template):
        return True
    try:
        get_training_chat_template(tokenizer)
    except ValueError:
        return False
    return True


def label_answers(rows: Dataset | IterableDataset, tokenizer: PreTrainedTokenizerBase) -> Dataset | IterableDataset:
    """Rows of `messages` with `input_ids` and `labels` added: -100 on everything that is not the assistant's.

    Raises DataError for a conversation whose answers cannot be told apart.
    """
    def label(row: dict[str, Any]) -> dict[str, list[int]]:
        return labelled(row["messages"], tokenizer)

    return rows.map(label)


def labelled(messages: Messages, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """One conversation's `input_ids`, as the chat template renders it, and `labels`. Raises DataError."""
    def render(part: Messages, prompt: bool = False) -> str:
        return str(tokenizer.apply_chat_template(part, tokenize=False, add_generation_prompt=prompt))

    whole = render(messages)
    spans = [_span(messages, place, whole, render, tokenizer.eos_token or "")
             for place, message in enumerate(messages) if message["role"] == "assistant"]
    encoded = tokenizer(whole, add_special_tokens=False)
    ids = list(encoded["input_ids"])
    labels = [IGNORED] * len(ids)
    if not encoded.is_fast:
        raise DataError("This model's tokenizer does not say where its tokens lie in the text, and its chat template "
                        "does not mark the assistant's.", _HINT)
    for start, end in spans:
        first, last = encoded.char_to_token(start), encoded.char_to_token(end - 1)
        if first is None or last is None:
            raise _cannot_tell("its tokens do not cover the answer")
        labels[first:last + 1] = ids[first:last + 1]
    return {"input_ids": ids, "labels": labels}


def _span(messages: Messages, place: int, whole: str, render: Callable[..., str], eos: str) -> tuple[int, int]:
    """Where an answer and the end of its turn lie in the rendered conversation: [start, end)."""
    before, through = render(messages[:place], True), render(messages[:place + 1])
    if not whole.startswith(through):
        through = through.removesuffix(eos)  # some templates end the text, not the turn, with the EOS token
    if not (whole.startswith(through) and through.startswith(before)):
        raise _cannot_tell("it renders a conversation's beginning otherwise than the whole")
    answer = through[len(before):].rstrip()
    if str(messages[place]["content"]).strip() not in answer:
        raise _cannot_tell("it changes the answer's text")
    return len(before), len(before) + len(answer)


def _cannot_tell(why: str) -> DataError:
    return DataError(f"The chat template does not mark the assistant's tokens, and they cannot be told apart: {why}.",
                     _HINT)
