"""The rows of a run, loaded and checked before its model is: what the recipe does not let pass ends the run here."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from datasets import Dataset
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.catalog.models import ModelSource
from workbench.engine.data.check import check_structure
from workbench.engine.data.examples import Rejected
from workbench.engine.data.findings import Finding, how_to_pass, refused
from workbench.engine.data.sources import DataError
from workbench.engine.errors import InputError
from workbench.engine.objective_checks import label_imbalance, too_few_prompts
from workbench.engine.recipe import Recipe
from workbench.engine.runs.directory import RunDirectory
from workbench.worker.data.examples import STREAM_ROWS, Examples, Rows, RowsFolder, load_examples, read_anywhere
from workbench.worker.data.token_facts import BATCH, TokenFacts, generation_ends
from workbench.worker.objectives import shuffled_if_kept_in_order
from workbench.worker.reporter import Reporter

REJECTED_ROWS = "rejected_rows.jsonl"
STREAM_BYTES = 64 << 20
"""Bytes of a stream that are looked through before it is trained on."""
_MOST_WRITTEN = 1000
"""Rows that are written down when the run is refused for them; of those that it may set aside every one is."""
_NEWS_EVERY = 5.0  # seconds between two lines about a long check


@dataclass(frozen=True)
class TrainingRows:
    """What the trainer is given."""

    train: Rows
    held_out: Dataset | None


class RejectedRows:
    """Sets bad rows aside, each once, in `rejected_rows.jsonl`; more than the recipe lets pass end the run."""

    def __init__(self, path: Path, limit: int, at_once: bool) -> None:
        """`at_once`: at the first one too many, as while training; else all are collected first."""
        self._path = path
        self._limit = limit
        self._at_once = at_once
        self._seen: set[tuple[str, int]] = set()
        self._first: Rejected | None = None
        path.unlink(missing_ok=True)

    def __call__(self, row: Rejected) -> None:
        """Set one aside. Raises DataError."""
        place = (row.source, row.line)
        if place in self._seen:
            return  # streams begin anew
        self._first = self._first or row
        self._seen.add(place)
        if len(self._seen) <= max(self._limit, _MOST_WRITTEN):
            with open(self._path, "a", encoding="ascii", opener=_private) as file:
                file.write(json.dumps({"source": row.source, "line": row.line, "reason": row.reason, "row": row.row},
                                      default=str) + "\n")
        if self._at_once:
            self.refuse_too_many()

    def refuse_too_many(self) -> None:
        """Raise DataError when there are more than may be set aside."""
        if self._first is None or len(self._seen) <= self._limit:
            return
        count = len(self._seen)
        first = f"{self._first.source}:{self._first.line}: {self._first.reason}"
        raise DataError(first if count == 1 else f"{count:,} rows cannot be used, the first of them: {first}",
                        f"Mend them, or set them aside: --set data.max_rejected_rows={count}. "
                        f"{'They are' if count <= _MOST_WRITTEN else f'The first {_MOST_WRITTEN:,} are'} listed in "
                        f"{self._path.name}.")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def training_rows(recipe: Recipe, model: ModelSource, run: RunDirectory, tokenizer: PreTrainedTokenizerBase,
                  reporter: Reporter, obey: Callable[[], None]) -> Iterator[TrainingRows]:
    """The rows to train and to evaluate on, for as long as the block lasts.

    `obey` is called now and then, and may raise to stop. Raises InputError or DataError for data that cannot be used,
    or that the recipe does not let pass.
    """
    folder = run.path
    with RowsFolder(folder) as files:
        rejected = RejectedRows(folder / REJECTED_ROWS, recipe.data.max_rejected_rows, at_once=recipe.dataset.streaming)
        examples = load_examples(recipe, folder, rejected, files)
        rejected.refuse_too_many()
        reporter.phase("checking the rows")
        facts = TokenFacts(recipe, tokenizer, generation_ends(model, tokenizer))
        findings = [*_structure(recipe, folder, obey), *_tokens(facts, examples, reporter, obey)]
        refuse(recipe, folder, findings)
        for finding in findings:
            reporter.alert(finding.message)
        if isinstance(examples.train, Dataset):
            _check_for_objective(recipe, examples.train, reporter)
        held_out = examples.held_out
        yield TrainingRows(shuffled_if_kept_in_order(recipe, examples.train),
                           shuffled_if_kept_in_order(recipe, held_out) if held_out is not None else None)


def _check_for_objective(recipe: Recipe, rows: Dataset, reporter: Reporter) -> None:
    for _, message, hint in too_few_prompts(recipe, len(rows)):
        raise InputError(message, hint)
    if recipe.objective == "kto":
        good = sum(rows["label"])
        if words := label_imbalance(recipe, good, len(rows) - good):
            reporter.alert(words)


def refuse(recipe: Recipe, run: Path, findings: Iterable[Finding]) -> None:
    """Raise DataError that names the findings which the recipe does not let pass, with the setting that would."""
    stopping = refused(findings, recipe.data)
    if not stopping:
        return
    way_out = how_to_pass(stopping, recipe.data)
    if len(stopping) == 1:
        raise DataError(stopping[0].message, f"{stopping[0].hint or ''} {way_out}".strip())
    listed = ", ".join(f"{finding.id} {finding.count:,} ({_first_place(finding)})" for finding in stopping)
    raise DataError(f"The data check does not let this run start: {listed}.",
                    f"`workbench data {run / 'recipe.yaml'}` shows them. {way_out}")


def _first_place(finding: Finding) -> str:
    """The first of its places, without the folder, and whether there are more."""
    place = finding.places[0].rpartition("/")[2] if finding.places else "?"
    return f"{place} …" if finding.count > 1 else place


def _structure(recipe: Recipe, run: Path, obey: Callable[[], None]) -> tuple[Finding, ...]:
    def cancelled() -> bool:
        obey()
        return False

    # A stream is not read to its end before it is trained on.
    limit = STREAM_BYTES if recipe.dataset.streaming else None
    report = check_structure(recipe, run, limit_bytes=limit, cancelled=cancelled,
                             read=partial(read_anywhere, most_of_hub=STREAM_ROWS if limit else None))
    # Those were counted while the rows were loaded.
    return tuple(finding for finding in report.findings if finding.id != "rejected-rows")


def _tokens(facts: TokenFacts, examples: Examples, reporter: Reporter, obey: Callable[[], None]) -> list[Finding]:
    said = time.monotonic()
    rows = examples.located()
    while batch := list(islice(rows, BATCH)):
        obey()
        facts.add(batch)
        if time.monotonic() - said > _NEWS_EVERY:
            said = time.monotonic()
            reporter.phase(f"checking the rows: {facts.rows:,} so far")
    return facts.findings()
