"""Looks at data for the Data screen and `workbench data`: what is wrong with it, and its rows as a model sees them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.catalog.completeness import IncompleteModelError
from workbench.engine.catalog.models import ModelSource, resolve_model
from workbench.engine.data.chat_template import NAMES, resolve_chat_template
from workbench.engine.data.check import CheckCancelled, StructureReport, check_structure, first_rows
from workbench.engine.data.examples import Located
from workbench.engine.data.facts import epoch_rows, trained_rows
from workbench.engine.errors import InputError
from workbench.engine.hub import HubError
from workbench.engine.recipe import Recipe
from workbench.engine.text import one_line
from workbench.worker.data.examples import read_anywhere
from workbench.worker.data.prepared import pack
from workbench.worker.data.templates import TemplateChoice, choose_template
from workbench.worker.data.token_facts import BATCH, PACKS, TokenFacts, generation_ends
from workbench.worker.data.views import view_packed, view_rows
from workbench.worker.loading import load_tokenizer

Progress = Callable[[str, float | None], None]
"""Hears what is being done, in words, and the share that is done where it is known."""

SAMPLE = 2000
"""Rows that are tokenised when somebody waits: a percentile within a few per cent, in a few seconds."""
SAMPLE_BYTES = 64 << 20
"""Bytes of the data that are looked through when somebody waits."""
_NOTES = {
    "rlhf": "Prompts alone: the answers are sampled while training, and nothing is learned before one is scored.",
    "reward": "A score is learned, read at the last token of each answer; tokens are not.",
    "orpo": "The likelihood of a chosen answer is learned together with its prompt's; of a rejected one, the answer's.",
}
"""What the marks of an objective mean, where they are not simply the tokens that are learned."""
_PREVIEWS = 20
_PACKED_PREVIEWS = 3


class Inspector:
    """Keeps the last tokenizer, so that the next look at the same model's rows begins at once."""

    def __init__(self) -> None:
        self._known: tuple[Any, PreTrainedTokenizerBase, TemplateChoice, frozenset[int]] | None = None

    def inspect(self, recipe: Recipe, base_dir: Path | None, everything: bool, progress: Progress,
                cancelled: Callable[[], bool]) -> dict[str, Any]:
        """The document of `workbench data --json`. Raises InputError, DataError, CheckCancelled."""
        progress("loading the tokenizer", None)
        tokenizer, template, ends = self._tokenizer(recipe, base_dir)
        read = partial(read_anywhere, most_of_hub=None if everything else SAMPLE)
        report = check_structure(
            recipe, base_dir, limit_bytes=None if everything else SAMPLE_BYTES, cancelled=cancelled, read=read,
            on_progress=lambda done, total: progress("reading the rows", done / total if total else None))
        facts = TokenFacts(recipe, tokenizer, ends)
        if everything:
            rows, expected = _every_row(recipe, base_dir), report.examples
        else:
            sample = report.sample[:: max(math.ceil(len(report.sample) / SAMPLE), 1)]
            rows, expected = iter(sample), len(sample)
        while batch := list(islice(rows, BATCH)):
            if cancelled():
                raise CheckCancelled("The inspection was cancelled.")
            facts.add(batch)
            progress("tokenising", min(facts.rows / max(expected, 1), 1.0))
        return _document(recipe, template, report, facts, tokenizer)

    def render(self, recipe: Recipe, base_dir: Path | None, examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each example's sequences as the model sees them, with `row`, its place in what was given."""
        tokenizer, _, _ = self._tokenizer(recipe, base_dir)
        return [{"row": place, **asdict(view)}
                for place, views in enumerate(view_rows(recipe, tokenizer, examples)) for view in views]

    def _tokenizer(self, recipe: Recipe, base_dir: Path | None
                   ) -> tuple[PreTrainedTokenizerBase, TemplateChoice, frozenset[int]]:
        wanted = recipe.data.chat_template
        # A file may have been mended since.
        written = None if wanted in NAMES else Path(resolve_chat_template(wanted, base_dir)).stat().st_mtime_ns
        key = (recipe.model, wanted, written, base_dir)
        if self._known is None or self._known[0] != key:
            source = resolve_model(recipe.model, base_dir)
            tokenizer, own = _load_tokenizer(source)
            template = choose_template(tokenizer, wanted, own=own, model=source.name, base_dir=base_dir)
            self._known = key, tokenizer, template, generation_ends(source, tokenizer)
        return self._known[1:]


def _load_tokenizer(source: ModelSource) -> tuple[PreTrainedTokenizerBase, bool]:
    try:
        return load_tokenizer(source)
    except (IncompleteModelError, HubError) as error:
        message, hint = error.message, error.hint
    except (OSError, ValueError) as error:
        message = f"The tokenizer of {source.name} cannot be loaded: {one_line(str(error), 160)}"
        hint = f"Download it: hf download {source.name} --include '*.json' 'tokenizer*' '*.jinja'."
    raise InputError(message, f"{hint or ''} Or look at the rows with another model's: --model tiny-base.".strip())


def _every_row(recipe: Recipe, base_dir: Path | None) -> Iterator[Located]:
    for part in recipe.dataset.parts:
        for found in first_rows(read_anywhere(part, recipe.objective, base_dir), recipe.dataset.max_rows):
            if isinstance(found, Located):
                yield found


def _document(recipe: Recipe, template: TemplateChoice, report: StructureReport, facts: TokenFacts,
              tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    shown = list(report.sample[:_PREVIEWS])
    views = view_rows(recipe, tokenizer, [located.example for located in shown])
    preview = [{"source": located.source, "line": located.line, **asdict(view)}
               for located, sequences in zip(shown, views, strict=True) for view in sequences]
    packed = []
    if recipe.training.packing and recipe.objective in PACKS and shown:
        sequences = pack(recipe, tokenizer, [located.example for located in report.sample[:BATCH]])
        packed = [view_packed(tokenizer, sequence) for sequence in islice(sequences, _PACKED_PREVIEWS)]
    findings = [*report.findings, *facts.findings()]
    trained = trained_rows(recipe.dataset, epoch_rows(recipe.dataset, report.part_examples))
    return {
        "format": report.format, "why": report.why, "columns": dict(report.columns), "model": recipe.model,
        "objective": recipe.objective, "template": template.name, "rows": report.rows,
        "usable_rows": report.usable_rows, "examples": report.examples, "eval_rows": report.eval_rows,
        "exact": report.exact, "rows_estimated": report.rows_estimated, "rejected_count": report.rejected_count,
        "rejected": [{"source": row.source, "line": row.line, "reason": row.reason} for row in report.rejected],
        "note": _NOTES.get(recipe.objective), "duplicates": report.duplicates,
        **facts.document(trained),
        "findings": [finding.to_json() for finding in findings], "preview": preview, "packed_preview": packed,
    }
