"""The rows of a file, one by one with their line, whatever kind of file it is; never more than a block in memory."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from workbench.engine.data.json_arrays import is_array, read_array
from workbench.engine.data.sources import kind_of_file
from workbench.engine.data.streams import TOO_LONG, Meter, lines, opened
from workbench.engine.data.tables import read_delimited, read_parquet
from workbench.engine.data.values import BadRow, Row, kind_of
from workbench.engine.text import one_line

Rows = Iterator[tuple[int, Row | BadRow]]
_MOST_SHOWN = 10_000
"""Bytes of an unreadable line that are kept."""


def read_rows(path: Path, name: str | None = None, meter: Meter | None = None) -> Rows:
    """(line, row) for each row: the 1-based line it begins on, or its number in a JSON array or a Parquet file.

    A row that cannot be read comes as a BadRow, and reading goes on behind it. Raises DataError, which calls the file
    `name`, where the file as a whole cannot be read.
    """
    name, meter = name or str(path), meter or Meter()
    yield from _READERS[str(kind_of_file(path))](path, name, meter)
    meter.end()


def _read_json(path: Path, name: str, meter: Meter) -> Rows:
    # Many a .json file is JSON lines, and some a .jsonl file is one array.
    return read_array(path, name, meter) if is_array(path, name) else _read_lines(path, name, meter)


def _read_lines(path: Path, name: str, meter: Meter) -> Rows:
    return _each_line(path, name, meter, lambda line: _parsed(line) if line and not line.isspace() else None)


def _each_line(path: Path, name: str, meter: Meter, made: Callable[[bytes], Row | BadRow | None]) -> Rows:
    """What `made` makes of each line; None: nothing."""
    with opened(path, name, meter) as content:
        for number, line in lines(content, name):
            row = BadRow(TOO_LONG) if line is None else made(line)
            if row is not None:
                yield number, row


def _parsed(line: bytes) -> Row | BadRow:
    """One line of JSON as a row."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        row = _with_nan(line)
        if row is None:
            return BadRow(_json_fault(line, error), line[:_MOST_SHOWN].decode("utf-8", "backslashreplace"))
    if not isinstance(row, dict):
        return BadRow(f"the row is {kind_of(row)}, not an object of columns", row)
    return row


def _with_nan(line: bytes) -> Any:
    # Python's own writer puts NaN where a number is missing, which JSON does not have.
    if b"NaN" not in line and b"Infinity" not in line:
        return None
    try:
        return json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def _json_fault(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as fault:
        return f"not valid UTF-8: byte 0x{line[fault.start]:02x} at column {fault.start + 1}"
    return f"not valid JSON: {one_line(error.msg, 80)} at column {error.colno}"


def rows_by(path: Path, name: str) -> str:
    """What a row of a plain text is, as the end of a sentence; empty for other kinds of files."""
    if kind_of_file(path) != "plain text":
        return ""
    return "; blank lines part its rows" if _by_paragraph(path, name) else "; each line is a row: no line is blank"


def _by_paragraph(path: Path, name: str) -> bool:
    """Whether there are blank lines near the beginning."""
    with opened(path, name, Meter()) as content:
        beginning = content.read().replace(b"\r\n", b"\n")
    return b"\n\n" in beginning.strip()


def _read_text(path: Path, name: str, meter: Meter) -> Rows:
    return _paragraphs(path, name, meter) if _by_paragraph(path, name) else _text_lines(path, name, meter)


def _text_lines(path: Path, name: str, meter: Meter) -> Rows:
    def row(line: bytes) -> Row | None:
        said = line.decode("utf-8", "surrogateescape").rstrip("\r")
        return {"text": said} if said else None

    return _each_line(path, name, meter, row)


def _paragraphs(path: Path, name: str, meter: Meter) -> Rows:
    held: list[str] = []
    first = 1
    for number, row in _text_lines(path, name, meter):
        said = "" if isinstance(row, BadRow) else row["text"]
        if held and (number != first + len(held) or not said.strip()):
            yield first, {"text": "\n".join(held)}
            held.clear()
        if isinstance(row, BadRow):
            yield number, row
        elif said.strip():
            first = first if held else number
            held.append(said)
    if held:
        yield first, {"text": "\n".join(held)}


_READERS: dict[str, Callable[[Path, str, Meter], Iterator[tuple[int, Any]]]] = {
    "JSON lines": _read_json,
    "JSON": _read_json,
    "CSV": lambda path, name, meter: read_delimited(path, name, meter, ","),
    "TSV": lambda path, name, meter: read_delimited(path, name, meter, "\t"),
    "Parquet": read_parquet,
    "plain text": _read_text,
}
