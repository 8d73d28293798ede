"""Conversations as `datasets` holds them, from local files or the Hub."""

from pathlib import Path

from datasets import Dataset, disable_progress_bars, load_dataset

from workbench.engine.data.conversations import read_conversations
from workbench.engine.data.examples import Rejected, examples_of
from workbench.engine.data.sources import DataError, resolve_dataset
from workbench.engine.data.values import Message
from workbench.engine.recipe import DatasetPart, DatasetSettings

disable_progress_bars()


def load_conversations(settings: DatasetSettings, base_dir: Path | None, seed: int) -> tuple[Dataset, Dataset | None]:
    """(train, eval or None), each with one column `messages`: a list of {role, content}. Raises DataError."""
    rows = _read(settings.path, settings.split, settings.max_rows, base_dir)
    train = Dataset.from_list([{"messages": list(row)} for row in rows])
    if settings.eval_path is not None:
        held_out = _read(settings.eval_path, settings.split, None, base_dir)
        return train, Dataset.from_list([{"messages": list(row)} for row in held_out])
    if settings.eval_fraction > 0:
        parts = train.train_test_split(test_size=settings.eval_fraction, seed=seed)
        return parts["train"], parts["test"]
    return train, None


def _read(reference: str, split: str, max_rows: int | None, base_dir: Path | None) -> list[tuple[Message, ...]]:
    source = resolve_dataset(reference, base_dir)
    if source.path is not None:
        return list(read_conversations(source.path, max_rows).rows)
    hub = load_dataset(source.name, split=split)
    if max_rows is not None:
        hub = hub.select(range(min(max_rows, len(hub))))
    if len(hub) == 0:
        raise DataError(f"{source.name} has no rows in its split {split}.")
    rows = []
    for found in examples_of(enumerate(hub, 1), DatasetPart(path=source.name), "sft", source.name):
        if isinstance(found, Rejected):
            raise DataError(f"{found.source}:{found.line}: {found.reason}.")
        rows.append(tuple(found.example["messages"]))
    return rows
