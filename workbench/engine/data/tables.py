"""Rows of CSV, TSV and Parquet files."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.engine.data.sources import DataError
from workbench.engine.data.streams import MOST_ROW_BYTES, TOO_LONG, Content, Meter, lines, opened
from workbench.engine.data.values import BadRow, Row
from workbench.engine.text import one_line

_BATCH = 256
"""Rows of a Parquet file that are turned into Python at once."""


def read_delimited(path: Path, name: str, meter: Meter, delimiter: str) -> Iterator[tuple[int, Row | BadRow]]:
    """(line a row begins on, row) of a table whose first line names the columns. Cells are text, empty ones None.

    Raises DataError for a table without a usable first line, with a quote that is never closed, or with a line that is
    too long to be held.
    """
    csv.field_size_limit(MOST_ROW_BYTES)
    with opened(path, name, meter) as content:
        texts = _texts(content, name)
        first = next(texts, "")
        if delimiter == "," and "," not in first and ";" in first:
            delimiter = ";"  # as spreadsheets write it where the comma is the decimal point
        header = _header(first, delimiter, name)
        reader = csv.reader(texts, delimiter=delimiter, strict=True)
        while True:
            line = reader.line_num + 2
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error) or "field limit" in str(error):
                    raise DataError(f"{name}:{line}: a quote is opened and not closed.",
                                    "Close it, or write a quote inside a cell twice.") from None
                yield line, BadRow(f"not valid CSV: {one_line(str(error), 80)}")
                continue
            if len(cells) == len(header):
                yield line, {column: cell or None for column, cell in zip(header, cells, strict=True)}
            elif any(cells):
                yield line, BadRow(f"the first line names {len(header)} columns, this row has {len(cells)}", cells)


def _texts(content: Content, name: str) -> Iterator[str]:
    for number, line in lines(content, name):
        if line is None:  # whether a quote of it is still open behind it, nobody knows
            raise DataError(f"{name}:{number}: {TOO_LONG}.")
        yield line.decode("utf-8", "surrogateescape") + "\n"


def _header(first: str, delimiter: str, name: str) -> list[str]:
    try:
        first.encode()
    except UnicodeEncodeError:
        raise DataError(f"{name}:1: the names of the columns are not valid UTF-8.", "Save it as UTF-8.") from None
    try:
        header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter, strict=True), [])]
    except csv.Error as error:
        raise DataError(f"{name}:1: not valid CSV: {error}.") from None
    doubled = sorted({cell for cell in header if header.count(cell) > 1})
    if doubled:
        raise DataError(f"{name}:1: the column {doubled[0] or '(no name)'!r} is there twice.", "Name each column once.")
    return header


def read_parquet(path: Path, name: str, meter: Meter) -> Iterator[tuple[int, Row | BadRow]]:
    """(1-based number, row) of a Parquet file, a batch of rows in memory at a time. Raises DataError."""
    import pyarrow
    from pyarrow import parquet

    try:
        size = path.stat().st_size
        with parquet.ParquetFile(path) as file:
            number, total = 0, max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(_BATCH):
                for row in _batch_rows(batch):
                    number += 1
                    yield number, row
                meter.at(size * number // total)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"Cannot read {name} as Parquet: {one_line(str(error), 120)}.") from None


def _batch_rows(batch: Any) -> Iterator[Row | BadRow]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield BadRow(f"not valid UTF-8: byte 0x{error.object[error.start]:02x}")
