"""Where a dataset is: built in, a local file, or an id on the Hub; and its rows, read one by one with line numbers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from workbench.engine.errors import InputError
from workbench.engine.paths import assets_dir
from workbench.engine.text import nearest, one_line

BUILT_IN = {
    "glossary": "glossary.jsonl",
    "glossary-held-out": "glossary_held_out.jsonl",
    "glossary-text": "glossary_text.jsonl",
    "glossary-text-held-out": "glossary_text_held_out.jsonl",
    "glossary-pairs": "glossary_pairs.jsonl",
    "glossary-pairs-held-out": "glossary_pairs_held_out.jsonl",
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SUFFIXES = (".jsonl", ".ndjson", ".json")

Row = dict[str, Any]


class DataError(InputError):
    """A row that cannot be used; the message names file, line and reason."""


@dataclass(frozen=True)
class DatasetSource:
    """Where the rows are. `path` is None for a dataset on the Hub, whose id is `name`."""

    name: str
    kind: Literal["built-in", "file", "hub"]
    path: Path | None


def resolve_dataset(reference: str, base_dir: Path | None = None) -> DatasetSource:
    """What a recipe's `dataset.path` means; relative paths start from `base_dir`. Raises InputError."""
    if reference in BUILT_IN:
        return DatasetSource(reference, "built-in", assets_dir() / BUILT_IN[reference])
    path = Path(reference).expanduser()
    if not path.is_absolute():
        path = (base_dir or Path.cwd()) / path
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise InputError(f"{path.name} is not a kind of file that can be read yet.",
                             f"Supported: {', '.join(_SUFFIXES)}.")
        return DatasetSource(reference, "file", path.resolve())
    if path.is_dir():
        raise InputError(f"{path} is a folder; a dataset is one file.", "Name the file in it.")
    if _HUB_ID.fullmatch(reference) and not reference.startswith(".") and Path(reference).suffix not in _SUFFIXES:
        return DatasetSource(reference, "hub", None)
    guess = nearest(reference, BUILT_IN)
    raise InputError(f"There is no dataset {reference!r}: no such file, and not an owner/name id on the Hub.",
                     f"Did you mean {guess}?" if guess else f"Built in: {', '.join(BUILT_IN)}.")


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(1-based line, row) for each row of a JSON-lines file, or (1-based index, row) for a JSON array.

    Raises DataError at the first row that is not a JSON object.
    """
    try:
        if path.suffix == ".json":
            yield from _read_array(path)
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                stripped = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
                if stripped:
                    yield number, _parse(path, number, stripped)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None


def _parse(path: Path, number: int, text: bytes) -> Row:
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}:{number}: not valid JSON: {one_line(str(error), 80)}.") from None
    if not isinstance(row, dict):
        raise DataError(f"{path}:{number}: the row is {type(row).__name__}, not an object of columns.")
    return row


def _read_array(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        rows = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: not valid JSON: {one_line(str(error), 80)}.") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: the file is not a list of rows.", "Use one object a line (.jsonl), or a JSON array.")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number} is {type(row).__name__}, not an object of columns.")
        yield number, row
