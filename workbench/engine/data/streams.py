"""The bytes of a file, unpacked where it is compressed, and how many of them have been read."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.engine.data.sources import DataError

BLOCK = 1 << 20
MOST_ROW_BYTES = 64 << 20
"""A longer row is not read: it is set aside, and never held as a whole."""
_Stream = io.FileIO | gzip.GzipFile | io.BufferedReader
_BOM = b"\xef\xbb\xbf"


@dataclass
class Meter:
    """How far reading has come, in bytes on disk, over all the files read with it."""

    done: int = 0
    on_block: Callable[[int], None] = lambda done: None
    """Called with `done` before each block; what it raises ends the reading, even within a row."""
    _before: int = 0

    def at(self, position: int) -> None:
        """The current file has been read so far."""
        self.done = self._before + position
        self.on_block(self.done)

    def end(self) -> None:
        """The current file is done."""
        self._before = self.done


class Content:
    """What a file holds, unpacked, block by block; the meter is told how far it is used up."""

    def __init__(self, stream: _Stream, raw: io.FileIO, meter: Meter) -> None:
        self._stream, self._raw, self._meter = stream, raw, meter

    def read(self) -> bytes:
        """The next block; empty at the end."""
        self._meter.at(self._raw.tell())
        return self._stream.read(BLOCK)


@contextmanager
def opened(path: Path, name: str, meter: Meter) -> Iterator[Content]:
    """The content of a file. Raises DataError, which calls it `name`, also while it is read."""
    try:
        with io.FileIO(path) as raw:
            yield Content(_unpacked(path, raw), raw, meter)
    except (EOFError, zlib.error, OSError) as error:
        raise _broken(name, error) from None


def _unpacked(path: Path, raw: io.FileIO) -> _Stream:
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if path.suffix.lower() == ".zst":
        import pyarrow

        stream: Any = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")
        return io.BufferedReader(stream, BLOCK)
    return raw


def _broken(name: str, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"Cannot read {name}: {error.strerror}.")
    return DataError(f"{name} is cut off or damaged: {error}.", "Copy or download it again.")


def refuse_utf16(beginning: bytes, name: str) -> None:
    """Raises DataError where a file begins as UTF-16 does, which would make every single row a fault."""
    if beginning[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name} is UTF-16 text.", "Save it as UTF-8.")


def lines(content: Content, name: str) -> Iterator[tuple[int, bytes | None]]:
    """(1-based number, line without its end and without a byte order mark); None in place of a line longer than
    MOST_ROW_BYTES. Raises DataError for UTF-16."""
    block = content.read()
    refuse_utf16(block, name)
    block = block.removeprefix(_BOM)
    number, size = 1, 0
    held: list[bytes] = []
    while block:
        *whole, rest = block.split(b"\n")
        for piece in whole:
            if size:
                yield number, None if size + len(piece) > MOST_ROW_BYTES else b"".join((*held, piece))
                held, size = [], 0
            else:
                yield number, piece
            number += 1
        size += len(rest)
        if size > MOST_ROW_BYTES:
            held.clear()
        elif rest:
            held.append(rest)
        block = content.read()
    if size:
        yield number, None if size > MOST_ROW_BYTES else b"".join(held)


TOO_LONG = f"the line is longer than {MOST_ROW_BYTES >> 20} MiB"
