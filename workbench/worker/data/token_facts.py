"""What tokens tell of a dataset: how long its rows are, what is cut off, and what is never learned."""

import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.catalog.models import ModelSource
from workbench.engine.data.examples import Located
from workbench.engine.data.findings import Finding, FindingId
from workbench.engine.data.sources import DataError
from workbench.engine.errors import InputError
from workbench.engine.objective_checks import steps_per_epoch
from workbench.engine.recipe import Recipe
from workbench.engine.runs.store import read_json
from workbench.engine.text import one_line
from workbench.worker.data.prepared import Prepared, TokenSequence, pack, prepare

BATCH = 512
"""Rows prepared at once: enough to make the trainer's construction cheap, few enough to be cancelled in between."""

PACKS = ("sft", "cpt")
"""The objectives whose trainers join rows."""

_HINT = "Mend the row, or choose another chat template with data.chat_template."
_PLACES = 5
_BARS = 16


@dataclass
class _Tally:
    """Rows with one fault: how many, the tokens concerned, and where the first ones are."""

    count: int = 0
    tokens: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, located: Located, tokens: int = 0) -> None:
        self.count += 1
        self.tokens += tokens
        if len(self.places) < _PLACES:
            self.places.append(f"{located.source}:{located.line}")


class TokenFacts:
    """Counts rows as they come, a batch at a time; keeps a length of each and nothing else."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int]) -> None:
        """`ends` are the tokens at which generation stops."""
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._ends = ends
        self._lengths = array("q")
        self._packs = 0
        self._kept_tokens = 0
        self._kept_rows = 0
        self._truncated, self._masked, self._no_end, self._double_bos = _Tally(), _Tally(), _Tally(), _Tally()

    @property
    def rows(self) -> int:
        """Rows looked at."""
        return len(self._lengths)

    def add(self, batch: Sequence[Located]) -> None:
        """Look at some rows. Raises InputError where the trainer refuses, DataError with the place of a row that the
        chat template cannot render."""
        if not batch:
            return
        recipe = self._recipe
        whole = self._prepare(batch, cut=False)
        limit = recipe.training.max_length
        fits = recipe.objective == "rlhf" or all(len(sequence.ids) <= limit for sequences in whole.values()
                                                 for sequence in sequences)
        kept = whole if fits else self._prepare(batch, cut=True)
        for place, located in enumerate(batch):
            self._add(located, whole.get(place, ()), kept.get(place))
        if recipe.training.packing and recipe.objective in PACKS:
            self._packs += sum(1 for _ in pack(recipe, self._tokenizer, [located.example for located in batch]))

    def _prepare(self, batch: Sequence[Located], cut: bool) -> Prepared:
        try:
            return prepare(self._recipe, self._tokenizer, [located.example for located in batch], cut)
        except Exception as error:  # whatever a template or tokenizer raises on some row
            if isinstance(error, InputError) and not isinstance(error, DataError):
                raise
            if len(batch) == 1:
                hint = error.hint if isinstance(error, DataError) else None
                raise DataError(f"{batch[0].source}:{batch[0].line}: the row cannot be prepared: "
                                f"{one_line(str(error), 200)}", hint or _HINT) from error
            half = len(batch) // 2
            first = self._prepare(batch[:half], cut)
            second = self._prepare(batch[half:], cut)
            return {**first, **{place + half: sequences for place, sequences in second.items()}}

    def _add(self, located: Located, whole: tuple[TokenSequence, ...],
             kept: tuple[TokenSequence, ...] | None) -> None:
        self._lengths.append(max((len(sequence.ids) for sequence in whole), default=0))
        lost = sum(len(sequence.ids) for sequence in whole) - sum(len(sequence.ids) for sequence in kept or ())
        longest = self._lengths[-1] > self._recipe.training.max_length
        if lost and (kept is not None or self._recipe.objective == "reward"):
            self._truncated.add(located, lost)
        elif kept is None:
            self._masked.add(located)
        if kept is not None:
            self._kept_rows += 1
            self._kept_tokens += sum(len(sequence.ids) for sequence in kept)
        bos = self._tokenizer.bos_token_id
        if bos is not None and any(sequence.ids[:2] == [bos, bos] for sequence in whole):
            self._double_bos.add(located)
        if not longest and self.learns_text and not all(map(self._ends_well, whole)):
            self._no_end.add(located)

    @property
    def learns_text(self) -> bool:
        """Whether tokens are learned, and not a score or what is sampled later."""
        return self._recipe.objective not in ("reward", "rlhf")

    def _ends_well(self, sequence: TokenSequence) -> bool:
        """Whether the last learned token that is not white space is one at which generation stops."""
        learned = [number for number, trained in zip(sequence.ids, sequence.trained, strict=True) if trained][-4:]
        for number in reversed(learned):
            if number in self._ends:
                return True
            if self._tokenizer.decode([number]).strip():
                return False
        return False

    def findings(self) -> list[Finding]:
        """What is wrong, as far as tokens tell."""
        limit = self._recipe.training.max_length
        does = "the trainer leaves them out" if self._recipe.objective == "reward" else "they are cut there"
        longest = max(self._lengths, default=0)

        def found(kind: FindingId, tally: _Tally, one: str, several: str, what: str, hint: str) -> list[Finding]:
            rows = f"1 row {one}" if tally.count == 1 else f"{tally.count:,} rows {several}"
            where = ", ".join(tally.places) + (", …" if tally.count > len(tally.places) else "")
            finding = Finding(kind, tally.count, f"{rows} {what}: {where}.", hint, tuple(tally.places))
            return [finding] if tally.count else []

        return [
            *found("truncated", self._truncated, "has", "have", f"more than {limit:,} tokens (training.max_length), "
                   f"{does}, and {self._truncated.tokens:,} tokens are lost",
                   f"Raise training.max_length (the longest row has {longest:,} tokens), or shorten the rows."),
            *found("fully-masked", self._masked, "has", "have", f"nothing to learn within {limit:,} tokens, for "
                   "the prompt alone fills them, and the trainer drops the row",
                   "Raise training.max_length, or shorten the prompts."),
            *found("eos-not-trained", self._no_end, "does", "do", "not end, among what is learned, with a token at "
                   "which generation stops, so the model would not learn to stop",
                   "Choose a template with data.chat_template: chatml, llama-3, alpaca, plain."),
            *found("double-bos", self._double_bos, "begins", "begin", "with two BOS tokens, one in the text and one "
                   "added by the tokenizer", "Take the BOS token out of the text or the template."),
        ]

    def document(self, epoch_rows: int) -> dict[str, Any]:
        """The part of `workbench data --json` that tokens tell; an epoch trains on `epoch_rows`, looked at or not."""
        ordered = sorted(self._lengths)
        scale = epoch_rows / max(self.rows, 1)
        learns = self.learns_text and self.rows > 0
        return {
            "token_lengths": {"p50": _percentile(ordered, 50), "p95": _percentile(ordered, 95),
                              "max": ordered[-1] if ordered else None},
            "histogram": histogram(ordered), "tokens_looked_at": self.rows,
            "truncated_rows": self._truncated.count, "tokens_lost": self._truncated.tokens,
            "fully_masked_rows": self._masked.count,
            "eos_trained": self._no_end.count == 0 if learns else None, "double_bos": self._double_bos.count > 0,
            "tokens_per_epoch": round(self._kept_tokens * scale) if self.rows else None,
            "packing_gain": self._packing_gain(), "steps_per_epoch": self._steps(scale),
        }

    def _steps(self, scale: float) -> int | None:
        if not self.rows:
            return None
        return steps_per_epoch(self._recipe, math.ceil((self._packs or self._kept_rows) * scale))

    def _packing_gain(self) -> float | None:
        """Tokens that are computed without packing, padding among them, for each one computed with it."""
        if self._recipe.objective not in PACKS or not self.rows:
            return None
        lengths = [min(length, self._recipe.training.max_length) for length in self._lengths]
        random.Random(self._recipe.training.seed).shuffle(lengths)
        size = self._recipe.training.per_device_train_batch_size
        padded = sum(max(batch) * len(batch) for batch in (lengths[first:first + size]
                                                           for first in range(0, len(lengths), size)))
        return round(padded / max(sum(lengths), 1), 2)


def generation_ends(source: ModelSource, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens at which a model's generation stops: the tokenizer's EOS, and those that its files name."""
    settings = source.path / "generation_config.json" if source.path is not None else None
    configs = (source.config, read_json(settings) if settings is not None and settings.is_file() else {})
    found: set[int] = set()
    for value in (tokenizer.eos_token_id, *(config.get("eos_token_id") for config in configs)):
        found.update(number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int))
    return frozenset(found)


def histogram(ordered: Sequence[int]) -> list[list[int]]:
    """[[upper bound in tokens, rows up to it and above the one before], …] in equal steps of 1, 2 or 5 times a power of
    ten, at most 16 of them."""
    if not ordered:
        return []
    step = next(step for power in range(12) for step in (10**power, 2 * 10**power, 5 * 10**power)
                if step * _BARS >= ordered[-1])
    counts = [0] * max(math.ceil(ordered[-1] / step), 1)
    for length in ordered:
        counts[max(math.ceil(length / step) - 1, 0)] += 1
    return [[(number + 1) * step, rows] for number, rows in enumerate(counts)]


def _percentile(ordered: Sequence[int], percent: int) -> int | None:
    """The nearest-rank percentile."""
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)] if ordered else None

