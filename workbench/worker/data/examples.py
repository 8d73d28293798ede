"""A recipe's rows as datasets: canonical examples, streamed onto the disk or read while training, mixed by weight.

Of a mixture without weights every row of every part is taken, once. With weights an epoch has as many rows of each part
as its weight says, no row twice: it ends where the part that is smallest for its weight is used up. A part without a
weight, among others that have one, counts as 1.
"""

import math
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, Features, IterableDataset, Value
from datasets.exceptions import DatasetGenerationError

from workbench.engine.data.check import first_rows
from workbench.engine.data.examples import Located, Rejected, examples_of, read_examples
from workbench.engine.data.facts import trained_rows
from workbench.engine.data.formats import Format
from workbench.engine.data.sources import DataError, resolve_dataset
from workbench.engine.data.streams import Meter
from workbench.engine.errors import InputError
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_data import DatasetPart
from workbench.worker.data.features import features_of
from workbench.worker.data.hub import hub_rows

datasets.disable_progress_bars()

Rows = Dataset | IterableDataset
OnRejected = Callable[[Rejected], None]

STREAM_ROWS = 1000
"""Rows of a stream that are looked at before it is trained on, and among which it is shuffled."""

_ROW = "__row__"
_FOLDER = "rows-"


@dataclass
class Places:
    """Where every row came from, by its number in the column `_ROW`: twelve bytes each."""

    _sources: list[str] = field(default_factory=list)
    _source: "array[int]" = field(default_factory=lambda: array("I"))
    _line: "array[int]" = field(default_factory=lambda: array("Q"))
    _numbers: dict[str, int] = field(default_factory=dict)

    def add(self, located: Located) -> int:
        """Remember a row; returns its number."""
        if located.source not in self._numbers:
            self._numbers[located.source] = len(self._sources)
            self._sources.append(located.source)
        self._source.append(self._numbers[located.source])
        self._line.append(located.line)
        return len(self._line) - 1

    def locate(self, row: int, example: dict[str, Any]) -> Located:
        """The row with its place again."""
        return Located(self._sources[self._source[row]], self._line[row], example)


@dataclass(frozen=True)
class Examples:
    """What is trained and evaluated on, canonical examples; `located` gives the training rows with their places."""

    train: Rows
    held_out: Dataset | None
    located: Callable[[], Iterator[Located]]


def load_examples(recipe: Recipe, base_dir: Path | None, on_rejected: OnRejected, folder: Path) -> Examples:
    """A recipe's rows, as Arrow files in `folder`, which must outlive them; a stream stays where it is.

    Raises InputError or DataError for data that cannot be used; what `on_rejected` raises ends the reading.
    """
    loader = _Loader(recipe, base_dir, on_rejected, folder)
    settings = recipe.dataset
    if settings.streaming:
        return Examples(loader.stream(), loader.held_out(), loader.first_of_stream)
    train = loader.mixed([loader.on_disk(part, settings.max_rows) for part in settings.parts])
    if settings.max_rows is not None and len(train) > settings.max_rows:
        train = train.shuffle(seed=recipe.training.seed).select(range(settings.max_rows))
    held_out = loader.held_out()
    if held_out is None and settings.eval_fraction > 0 and len(train) > 1:
        if trained_rows(settings, len(train)) < 1:
            raise DataError(f"dataset.eval_fraction sets all {len(train):,} rows aside, and leaves none to train on.",
                            "Lower it.", "dataset.eval_fraction")
        parts = train.train_test_split(test_size=settings.eval_fraction, seed=recipe.training.seed)
        train, held_out = parts["train"], parts["test"]
    if len(train) == 0:
        raise DataError(f"{settings.label} has no rows that can be trained on.")
    return Examples(train.remove_columns(_ROW), held_out.remove_columns(_ROW) if held_out is not None else None,
                    lambda: loader.locate(train))


def read_anywhere(part: DatasetPart, objective: str, base_dir: Path | None, meter: Meter | None = None,
                  on_format: Callable[[Format], None] = lambda _: None,
                  most_of_hub: int | None = None) -> Iterator[Located | Rejected]:
    """`read_examples`, for parts on the Hub too: all of their rows, or the first ones."""
    source = resolve_dataset(part.path, base_dir)
    if source.path is not None:
        return read_examples(part, objective, base_dir, meter, on_format)
    rows = islice(hub_rows(source.name, part.config, part.split), most_of_hub)
    return examples_of(rows, part, objective, source.name, on_format)


class RowsFolder:
    """A folder for a run's rows, which is gone when the run ends; what a killed worker left behind is cleared first."""

    def __init__(self, run: Path) -> None:
        for stale in run.glob(f"{_FOLDER}*"):
            shutil.rmtree(stale, ignore_errors=True)
        self._folder = tempfile.TemporaryDirectory(prefix=_FOLDER, dir=run, ignore_cleanup_errors=True)

    def __enter__(self) -> Path:
        return Path(self._folder.name)

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()


class _Loader:
    def __init__(self, recipe: Recipe, base_dir: Path | None, on_rejected: OnRejected, folder: Path) -> None:
        self._recipe = recipe
        self._base_dir = base_dir
        self._on_rejected = on_rejected
        self._folder = folder
        self._files = 0
        self._features: Features | None = None
        self.places = Places()

    def on_disk(self, part: DatasetPart, most: int | None = None) -> Dataset:
        """A part's rows in an Arrow file, written a block at a time."""
        self._files += 1
        columns = self._columns()
        features = Features({**columns, _ROW: Value("int64")})
        rows = self._placed_rows(part, columns, most)
        first = next(rows, None)
        if first is None:  # of which `datasets` makes no file, and then misses it
            return Dataset.from_dict({name: [] for name in features}, features=features)
        try:
            return Dataset.from_generator(lambda: chain([first], rows), features=features,
                                          cache_dir=str(self._folder), fingerprint=f"part-{self._files}")
        except DatasetGenerationError as error:
            if isinstance(error.__cause__, InputError):
                raise error.__cause__ from None
            raise

    def held_out(self) -> Dataset | None:
        """The rows that are only evaluated on, where the recipe names some."""
        parts = self._recipe.dataset.eval_parts
        return datasets.concatenate_datasets([self.on_disk(part) for part in parts]) if parts else None

    def mixed(self, parts: list[Dataset]) -> Dataset:
        """The parts in the shares that their weights give them."""
        weights = self._weights()
        if weights is None:
            return datasets.concatenate_datasets(parts)
        rounds = min(len(rows) / weight for rows, weight in zip(parts, weights, strict=True))
        taken = [rows.shuffle(seed=self._recipe.training.seed).select(range(math.floor(rounds * weight + 1e-9)))
                 for rows, weight in zip(parts, weights, strict=True)]
        return datasets.concatenate_datasets(taken)

    def stream(self) -> IterableDataset:
        """The parts read while training."""
        settings, training = self._recipe.dataset, self._recipe.training
        if training.max_steps < 1:
            raise InputError("dataset.streaming reads rows while training, so nobody knows how many an epoch has.",
                             "Set training.max_steps.")
        if settings.eval_fraction > 0 and not settings.eval_parts:
            raise InputError("dataset.eval_fraction sets aside a share of all rows, which a stream does not know.",
                             "Name rows to evaluate on with dataset.eval_path or eval_split.")
        features = self._columns()
        parts = [IterableDataset.from_generator(self._rows, features=features, gen_kwargs={
            "part": part, "features": features, "most": settings.max_rows}) for part in settings.parts]
        weights = self._weights()
        if weights is None:
            rows = datasets.concatenate_datasets(parts)
        else:
            rows = datasets.interleave_datasets(parts, [weight / sum(weights) for weight in weights],
                                                seed=training.seed, stopping_strategy="first_exhausted")
        if settings.max_rows is not None:
            rows = rows.take(settings.max_rows)
        return rows.shuffle(seed=training.seed, buffer_size=STREAM_ROWS)

    def locate(self, rows: Dataset) -> Iterator[Located]:
        """Rows with their places again."""
        for row in rows:
            number = row.pop(_ROW)
            yield self.places.locate(number, row)

    def first_of_stream(self) -> Iterator[Located]:
        """The first rows of each part: a stream is not read to its end before it is trained on."""
        for part in self._recipe.dataset.parts:
            yield from self._usable(part, STREAM_ROWS)

    def _weights(self) -> list[float] | None:
        weights = [part.weight for part in self._recipe.dataset.parts]
        return None if all(weight is None for weight in weights) else [weight or 1.0 for weight in weights]

    def _rows(self, part: DatasetPart, features: Features, most: int | None = None) -> Iterator[dict[str, Any]]:
        return (_columns_of(found, features) for found in self._usable(part, most))

    def _placed_rows(self, part: DatasetPart, features: Features, most: int | None) -> Iterator[dict[str, Any]]:
        return ({**_columns_of(found, features), _ROW: self.places.add(found)} for found in self._usable(part, most))

    def _usable(self, part: DatasetPart, most: int | None = None) -> Iterator[Located]:
        for found in first_rows(self._read(part), most):
            if isinstance(found, Rejected):
                self._on_rejected(found)
            else:
                yield found

    def _read(self, part: DatasetPart) -> Iterator[Located | Rejected]:
        return read_anywhere(part, self._recipe.objective, self._base_dir)

    def _columns(self) -> Features:
        """The types of the rows, the same for all parts."""
        if self._features is None:
            objective, parts = self._recipe.objective, self._recipe.dataset.parts
            if objective == "rlhf":
                self._features = Features({**features_of(objective, {}), **self._columns_of_prompts()})
            else:
                first = next((found.example for part in parts for found in self._read(part)
                              if isinstance(found, Located)), {})
                self._features = features_of(objective, first)
        return self._features

    def _columns_of_prompts(self) -> dict[str, Value]:
        """What prompts carry along for reward functions, over all rows: a first one may lack what others have."""
        kinds: dict[str, str] = {}
        for part in self._recipe.dataset.parts:
            for number, found in enumerate(self._read(part)):
                if self._recipe.dataset.streaming and number == STREAM_ROWS:
                    break
                for name, value in found.example.items() if isinstance(found, Located) else ():
                    if name != "prompt" and value is not None:
                        kind = _KINDS.get(type(value), "large_string")
                        # Whole numbers among others: JSON writes 9 for 9.0.
                        kinds[name] = "float64" if {kinds.get(name), kind} == {"int64", "float64"} else \
                            kinds.get(name, kind)
        return {name: Value(kind) for name, kind in kinds.items()}


def _columns_of(found: Located, features: Features) -> dict[str, Any]:
    return {name: found.example.get(name) for name in features}


_KINDS = {bool: "bool", int: "int64", float: "float64"}
