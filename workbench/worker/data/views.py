"""Rows as a person looks at them: every token's text, whether it is learned, and where the row was cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.recipe import Recipe
from workbench.engine.text import sanitise
from workbench.worker.data.prepared import PackedSequence, TokenSequence, prepare

MOST_TOKENS = 2000
"""Tokens of a row that are shown; nobody reads on, and a book in one row must not fill the wire."""

_INCOMPLETE = "\ufffd"
_SPACE = "▁"  # how SentencePiece writes a space, which decoding a token alone loses


@dataclass(frozen=True, slots=True)
class TokenView:
    """One sequence of a row: its tokens' texts with control characters made visible, `trained` and `special` for each.

    From the token `truncated_at` on, the model sees nothing. `dropped`: the trainer leaves the whole row out. `omitted`
    tokens at the end are not listed here.
    """

    side: str | None
    tokens: list[str]
    trained: list[bool]
    special: list[bool]
    truncated_at: int | None = None
    dropped: bool = False
    omitted: int = 0


def view_rows(recipe: Recipe, tokenizer: PreTrainedTokenizerBase,
              examples: Sequence[dict[str, Any]]) -> list[tuple[TokenView, ...]]:
    """For each canonical example its sequences, one for each answer of preference data.

    Raises InputError where the trainer refuses.
    """
    if not examples:
        return []
    whole = prepare(recipe, tokenizer, examples, cut=False)
    kept = prepare(recipe, tokenizer, examples) if recipe.objective != "rlhf" else whole
    return [_views(recipe, tokenizer, whole.get(place, ()), kept.get(place)) for place in range(len(examples))]


def _views(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, whole: tuple[TokenSequence, ...],
           kept: tuple[TokenSequence, ...] | None) -> tuple[TokenView, ...]:
    if not whole:  # nothing of it is learned, however long rows may be
        return (TokenView(None, [], [], [], dropped=True),)
    found = []
    for number, uncut in enumerate(whole):
        if kept is None:
            length = min(recipe.training.max_length, len(uncut.ids))
            trained: list[bool] = []
        else:
            length, trained = len(kept[number].ids), kept[number].trained
        shown = uncut.ids[:MOST_TOKENS]
        flags = (trained + [False] * (len(uncut.ids) - len(trained)))[:MOST_TOKENS]
        found.append(TokenView(uncut.side, pieces(tokenizer, shown), flags, specials(tokenizer, shown),
                               length if length < len(uncut.ids) else None, kept is None,
                               max(len(uncut.ids) - MOST_TOKENS, 0)))
    return tuple(found)


def view_packed(tokenizer: PreTrainedTokenizerBase, packed: PackedSequence) -> dict[str, Any]:
    """A packed sequence: {tokens, trained, special, starts}; `starts` are the places where a row begins."""
    shown = packed.ids[:MOST_TOKENS]
    return {"tokens": pieces(tokenizer, shown), "trained": packed.trained[:MOST_TOKENS],
            "special": specials(tokenizer, shown), "starts": [start for start in packed.starts if start < len(shown)]}


def specials(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[bool]:
    """For each token whether it is a special one, such as EOS."""
    known = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    known.update(tokenizer.all_special_ids)
    return [number in known for number in ids]


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Each token's text, so that joined they are the row's; a character of several tokens stands at its first one."""
    raw = tokenizer.convert_ids_to_tokens(list(ids))
    found: list[str] = []
    place = 0
    while place < len(ids):
        end = place + 1
        text = tokenizer.decode(ids[place:end], clean_up_tokenization_spaces=False)
        # At most four bytes make a character.
        while _INCOMPLETE in text and end < min(place + 4, len(ids)):
            longer = tokenizer.decode(ids[place:end + 1], clean_up_tokenization_spaces=False)
            end += 1
            if _INCOMPLETE not in longer:
                text = longer
                break
        else:
            end = place + 1
        if str(raw[place]).startswith(_SPACE) and not text.startswith(" "):
            text = " " + text
        found += [sanitise(text), *[""] * (end - place - 1)]
        place = end
    return found
