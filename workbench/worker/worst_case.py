"""The worst case a data loader can give: a batch of its longest rows, collated as the trainer collates them."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader

# Rows of a stream, whose end nobody knows, among which the longest are looked for.
_STREAM_ROWS = 1024
_CHUNK = 8192


@dataclass(frozen=True)
class WorstCase:
    """A collated batch on the CPU, the dataset's rows in it, and how many rows were looked at (None: all)."""

    batch: Any
    rows: int
    tokens: int
    """Tokens a row has after padding, or on average where rows are joined instead; 0 where it holds no token ids."""
    looked_at: int | None


def worst_case(loader: DataLoader, fallback_batch_size: int) -> WorstCase:
    """The longest rows of the loader's dataset as one batch; of a dataset with fewer rows than a batch, all."""
    size = getattr(loader.batch_sampler, "batch_size", None) or loader.batch_size or fallback_batch_size
    dataset = loader.dataset
    looked_at = None
    if isinstance(dataset, Dataset):
        rows = [dataset[index] for index in _longest_indices(dataset, size)]
    elif hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        rows = nlargest(size, (dataset[index] for index in range(len(dataset))), key=_length)
    else:
        rows = nlargest(size, islice(dataset, _STREAM_ROWS), key=_length)
        looked_at = _STREAM_ROWS
    if not rows:
        raise ValueError("The dataset has no rows.")
    assert loader.collate_fn is not None
    batch = loader.collate_fn(rows)
    return WorstCase(batch, len(rows), _tokens(batch, len(rows)), looked_at)


def _longest_indices(dataset: Dataset, size: int) -> list[int]:
    """Indices of the longest rows. Lengths come from Arrow's offsets: no row is read, a million take a second."""
    if len(dataset) <= size:
        return list(range(len(dataset)))
    return nlargest(size, range(len(dataset)), key=list(_lengths(dataset)).__getitem__)


def _lengths(dataset: Dataset) -> Iterator[int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for table in dataset.with_format("arrow").iter(batch_size=_CHUNK):
        columns: dict[str, list[int]] = {}
        for name in table.column_names:
            kind = table.schema.field(name).type
            if pa.types.is_list(kind) or pa.types.is_large_list(kind):
                columns[name] = pc.list_value_length(table[name]).fill_null(0).to_pylist()
            elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
                columns[name] = pc.binary_length(table[name]).fill_null(0).to_pylist()
        for row in range(len(table)):
            yield _total({name: lengths[row] for name, lengths in columns.items()})


def _length(row: Mapping[str, Any]) -> int:
    return _total({name: len(value) for name, value in row.items() if isinstance(value, list | str | torch.Tensor)})


def _total(lengths: Mapping[str, int]) -> int:
    """The length of the sequence that a row's columns become: a prompt is followed by one of the answers at a time."""
    ids = {name: length for name, length in lengths.items() if name.endswith("_ids")} or lengths
    prompt = sum(length for name, length in ids.items() if name.startswith("prompt"))
    answers: Iterable[int] = (length for name, length in ids.items() if not name.startswith("prompt"))
    return prompt + max(answers, default=0)


def _tokens(batch: Any, rows: int) -> int:
    matrices = [value for name, value in batch.items() if name.endswith("input_ids") and isinstance(value, torch.Tensor)
                and value.dim() == 2] if isinstance(batch, Mapping) else []
    if not matrices:
        return 0
    widest = max(matrices, key=torch.numel)
    joined = widest.shape[0] == 1 and rows > 1
    return math.ceil(widest.shape[1] / rows) if joined else int(widest.shape[1])
