"""What planning needs to know of a dataset: rows, tokens, faults, a fingerprint; a bounded look, once per version."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import xxhash

from workbench.engine.data.check import TRAIN, StructureReport, check_structure, concerning, parts_of
from workbench.engine.data.examples import Located, sequences
from workbench.engine.data.sources import DataError, files_of, resolve_dataset
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_data import DatasetSettings

LOOKED_AT_BYTES = 8 << 20
"""How much of the data a plan reads; a fifth of a second. The whole is read at launch."""
_HASHED_WHOLE = 64 << 20
_BLOCKS, _BLOCK_BYTES = 64, 64 << 10
_BATCH = 64
"""Texts that are tokenised at once: what the tokenizer returns takes far more memory than they do."""
_TOKEN_SAMPLE_CHARACTERS = 1_000_000
_LONG = 100_000
"""Characters of a text that are tokenised; what is behind them counts as much for each."""


@dataclass(frozen=True, eq=False)
class DatasetFacts:
    """A recipe's data at a glance. `rows` are those an epoch trains on before any are set aside for evaluation;
    None where some are on the Hub. `remote` names what is there."""

    report: StructureReport
    rows: int | None
    fingerprint: str | None
    remote: tuple[str, ...]


@dataclass(frozen=True)
class TokenFacts:
    """Tokens of the texts of an example, chat template not counted: the mean of their sum, and the longest one, over
    a sample."""

    mean: float
    longest: int


_Version = tuple[str, int, int]
"""A file's name, time and size."""


@dataclass(frozen=True)
class _Look:
    """What facts depend on: the settings, and the files as they are."""

    settings: DatasetSettings
    objective: str
    base_dir: Path | None
    files: tuple[_Version, ...]
    held_out: tuple[_Version, ...]
    remote: tuple[str, ...]
    recipe: Recipe = field(compare=False)


def dataset_facts(recipe: Recipe, base_dir: Path | None) -> DatasetFacts:
    """Look at a recipe's data, or recall it where neither the files nor the settings have changed.

    Raises DataError, whose `field` is the setting at fault.
    """
    files: list[_Version] = []
    held_out: list[_Version] = []
    remote: list[str] = []
    for part, setting in parts_of(recipe.dataset):
        with concerning(setting):
            source = resolve_dataset(part.path, base_dir)
            remote += [source.name] if source.path is None and setting == TRAIN else []
            for path, _ in files_of(source, part.split):
                stat = path.stat()
                (files if setting == TRAIN else held_out).append((str(path), stat.st_mtime_ns, stat.st_size))
    return _facts(_Look(recipe.dataset, recipe.objective, base_dir, tuple(files), tuple(held_out), tuple(remote),
                        recipe))


@lru_cache(maxsize=4)
def _facts(look: _Look) -> DatasetFacts:
    report = check_structure(look.recipe, look.base_dir, limit_bytes=LOOKED_AT_BYTES)
    if report.exact and not report.usable_rows and not look.remote:
        first = report.rejected[0]
        raise DataError(f"{look.settings.label} has no row that can be trained on; the first, {first.source}:"
                        f"{first.line}: {first.reason}.", field=TRAIN)
    rows = None if look.remote else epoch_rows(look.settings, report.part_examples)
    return DatasetFacts(report, rows, _fingerprint(look.files) if look.files else None, look.remote)


def epoch_rows(settings: DatasetSettings, parts: Sequence[int]) -> int:
    """Examples of an epoch, made of so many of each part: with weights as many of each as its weight says, no row
    twice, until the part that is smallest for its weight is used up."""
    weights = [part.weight for part in settings.parts]
    total = sum(parts)
    if any(weight is not None for weight in weights):
        shares = [weight or 1.0 for weight in weights]
        rounds = min(rows / share for rows, share in zip(parts, shares, strict=True))
        total = sum(math.floor(rounds * share + 1e-9) for share in shares)
    return total if settings.max_rows is None else min(total, settings.max_rows)


def trained_rows(settings: DatasetSettings, rows: int) -> int:
    """Those of an epoch's rows that are trained on, once `eval_fraction` of them, rounded up, are set aside."""
    return rows if settings.eval_parts else rows - math.ceil(rows * settings.eval_fraction)


def content_fingerprint(recipe: Recipe, base_dir: Path | None) -> str | None:
    """The xxh3-128 of the content that is trained on, wherever its files lie and whenever they were written; None where
    some of it is on the Hub. Raises DataError."""
    files: list[_Version] = []
    for part in recipe.dataset.parts:
        source = resolve_dataset(part.path, base_dir)
        if source.path is None:
            return None
        files += [(str(path), 0, path.stat().st_size) for path, _ in files_of(source, part.split)]
    return _fingerprint(files)


def _fingerprint(files: Sequence[_Version]) -> str:
    """The xxh3-128 of the files' content; of a large one its size, time and blocks that are spread over it."""
    digest = xxhash.xxh3_128()
    for name, modified, size in files:
        if size > _HASHED_WHOLE:
            digest.update(f"{size} {modified}".encode())
        hash_content(digest, Path(name), size)
    return digest.hexdigest()


def hash_content(digest: "xxhash.xxh3_128", path: Path, size: int) -> None:
    """Add a file's content to a digest; of a large one blocks that are spread over it. Raises OSError."""
    with path.open("rb") as file:
        if size <= _HASHED_WHOLE:
            while block := file.read(1 << 20):
                digest.update(block)
            return
        for number in range(_BLOCKS):
            file.seek((size - _BLOCK_BYTES) * number // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))


def token_facts(facts: DatasetFacts, model_folder: Path | None) -> TokenFacts | None:
    """Count with the model's own tokenizer; None when its tokenizer.json is not on this disk, or there are no rows."""
    if model_folder is None or not (model_folder / "tokenizer.json").is_file() or not facts.report.sample:
        return None
    return _count(facts, model_folder / "tokenizer.json")


@lru_cache(maxsize=8)
def _count(facts: DatasetFacts, tokenizer_file: Path) -> TokenFacts | None:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception:  # the library raises a bare Exception for a file it cannot read
        return None
    examples = [sequences(found.example) for found in _thinned(facts.report.sample)]
    texts = [text for example in examples for text in example]
    lengths: list[float] = []
    for start in range(0, len(texts), _BATCH):
        batch = texts[start:start + _BATCH]
        encoded = tokenizer.encode_batch_fast([text[:_LONG] for text in batch], add_special_tokens=False)
        lengths += [len(encoding) * max(len(text) / _LONG, 1) for encoding, text in zip(encoded, batch, strict=True)]
    return TokenFacts(sum(lengths) / len(examples), round(max(lengths)))


def _thinned(sample: Sequence[Located]) -> Sequence[Located]:
    """Every n-th of a sample, so that they are tokenised in a blink."""
    characters = sum(min(len(text), _LONG) for found in sample for text in sequences(found.example))
    return sample[:: max(math.ceil(characters / _TOKEN_SAMPLE_CHARACTERS), 1)]
