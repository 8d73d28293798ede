"""Rows of a JSON file that is one array, or an object that holds one: element by element, never the whole file."""

import codecs
import json
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from workbench.engine.data.sources import DataError, kind_of_file
from workbench.engine.data.streams import BLOCK, MOST_ROW_BYTES, Content, Meter, opened, refuse_utf16
from workbench.engine.data.values import BadRow, Row, is_messages, kind_of
from workbench.engine.text import one_line

_SPACE = re.compile(r"[ \t\n\r]*")
_LONGEST_LITERAL = 16
"""Characters before the end of what was read in which a fault may only mean that the rest is not read yet."""


def read_array(path: Path, name: str, meter: Meter) -> Iterator[tuple[int, Row | BadRow]]:
    """(1-based number, row) for each element. Raises DataError where the file is not valid JSON, with the line."""
    with opened(path, name, meter) as content:
        scanner = _Scanner(content, name)
        for number, row in enumerate(_elements(scanner), 1):
            yield number, row if isinstance(row, dict) else BadRow(
                f"the row is {kind_of(row)}, not an object of columns", row)


def is_array(path: Path, name: str) -> bool:
    """Whether a file is one JSON value; else each of its lines is. Raises DataError for UTF-16."""
    with opened(path, name, Meter()) as content:
        beginning = content.read()
    refuse_utf16(beginning, name)
    first, _, rest = beginning.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return first.startswith(b"[") or (kind_of_file(path) == "JSON" and bool(first))
    if rest.strip():
        return False
    return not isinstance(row, dict) or _list_of(row) is not None


def _list_of(document: dict[str, Any]) -> str | None:
    """The key of the rows in an object that is a whole file."""
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict) and not is_messages(value):
            return key
    return None


def _elements(scanner: "_Scanner") -> Iterator[Any]:
    opening = scanner.peek()
    if opening == "[":
        scanner.skip()
        yield from _listed(scanner)
    elif opening == "{":
        yield from _rows_in_object(scanner)
    elif opening:
        scanner.refuse("the file is not a list of rows")


def _listed(scanner: "_Scanner") -> Iterator[Any]:
    """The values of a list whose bracket is behind, up to and past its closing one."""
    while scanner.peek() != "]":
        yield scanner.value()
        mark = scanner.peek()
        if mark == ",":
            scanner.skip()
        elif mark != "]":
            scanner.fail("a comma or a closing bracket is missing" if mark else "the list is not closed: it is cut off")
    scanner.skip()


def _rows_in_object(scanner: "_Scanner") -> Iterator[Any]:
    """The one list of objects among the values of an object."""
    found = None
    while scanner.peek() in ("{", ","):
        scanner.skip()
        if scanner.peek() == "}":
            break
        key = scanner.value()
        if scanner.peek() != ":":
            scanner.fail("a colon is missing")
        scanner.skip()
        if scanner.peek() != "[":
            scanner.value()
            continue
        scanner.skip()
        if scanner.peek() == "{":
            if found is not None:
                scanner.refuse(f"both `{found}` and `{key}` are lists of rows, and a file can have one")
            found = key
            yield from _listed(scanner)
        else:
            deque(_listed(scanner), maxlen=0)
    if found is None:
        scanner.refuse("the file is not a list of rows")


class _Scanner:
    """JSON values read from a stream, holding no more than one of them and a block."""

    def __init__(self, content: Content, name: str) -> None:
        self._content, self._name = content, name
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._parse = json.JSONDecoder(parse_constant=lambda _: None).raw_decode
        self._text, self._at, self._lines, self._ended = "", 0, 1, False

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        """Raise DataError for the place where reading is, or `at`."""
        raise DataError(f"{self._place(self._at if at is None else at)}: not valid JSON: {reason}.",
                        "Mend the file, or write one object a line (.jsonl): then one bad row does not end it.")

    def refuse(self, reason: str) -> NoReturn:
        """Raise DataError for JSON that is valid and no dataset."""
        raise DataError(f"{self._place(self._at)}: {reason}.",
                        "Write a list of objects, or one object a line (.jsonl).")

    def _place(self, at: int) -> str:
        return f"{self._name}:{self._lines + self._text.count(chr(10), 0, at)}"

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Go past the character that `peek` gave."""
        self._at += 1

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            fault, at = "it ends too early", len(self._text)
            try:
                value, end = self._parse(self._text, self._at)
            except json.JSONDecodeError as error:
                fault, at = error.msg, error.pos
                if at < len(self._text) - _LONGEST_LITERAL and not fault.startswith("Unterminated"):
                    self.fail(fault[0].lower() + fault[1:], at)
            except ValueError as error:  # a number of thousands of digits
                reason = str(error).partition(";")[0]
                self.fail(one_line(reason[:1].lower() + reason[1:], 120))
            except RecursionError:
                self.fail("it is nested too deeply")
            else:
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            if len(self._text) - self._at > MOST_ROW_BYTES:
                self.fail(f"a row is longer than {MOST_ROW_BYTES >> 20} MiB")
            if not self._more():
                self.fail(fault[0].lower() + fault[1:], at)

    def _more(self) -> bool:
        """Read on, at least as much again as is held: a long row is not parsed over and over."""
        self._lines += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at:], 0
        wanted = len(self._text) + BLOCK
        pieces = [self._text]
        size = len(self._text)
        while size < wanted and not self._ended:
            block = self._content.read()
            pieces.append(self._decode(block, not block))
            size += len(pieces[-1])
            self._ended = not block
        grown = size > len(self._text)
        self._text = "".join(pieces)
        return grown
