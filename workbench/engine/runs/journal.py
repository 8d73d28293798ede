"""The journal of a run: append-only JSON lines, one writer, readers that never trip over half a line."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import orjson

from workbench.engine.redaction import redact
from workbench.engine.text import sanitise

VERSION = 1
_CHUNK = 1 << 20
# Longer lines are not ours; a reader must not hold an endless one in memory.
_LONGEST_LINE = 1 << 24
# No run has so many events or seconds: a line that says so is damaged.
_MOST = 1 << 48

Event = dict[str, Any]


def encode_number(value: float) -> float | str:
    """A number as JSON can carry it: NaN and infinities as "nan", "inf", "-inf"; JSON itself would make them null."""
    return value if math.isfinite(value) else str(float(value))


def decode_number(value: object) -> float | None:
    """The number that `encode_number` wrote; None for anything else."""
    if type(value) is float:
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    return float(value) if value in ("nan", "inf", "-inf") else None


class Journal:
    """The one writer of an events file. Each event is one `write`, so a kill leaves at most one partial last line."""

    def __init__(self, path: Path) -> None:
        """Opens for appending; continues the sequence, and seals a partial last line left by a killed writer."""
        *whole, partial = _last_lines(path)
        self._torn = bool(partial)
        # Half a line may be whole but for its newline, and counts then.
        tail = _parse_lines([*whole, partial])
        self._seq = max((seq for event in tail if type(seq := event.get("seq")) is int and seq < _MOST), default=-1) + 1
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        # Goes on from what the writer before counted: a run's time is that in which it was attended.
        counted = (decode_number(event.get("elapsed")) or 0.0 for event in tail)
        self._began = time.monotonic() - max((seconds for seconds in counted if 0 <= seconds < _MOST), default=0.0)

    def append(self, type_: str, /, durable: bool = False, **fields: Any) -> None:
        """Write one event; `durable` makes it survive a power cut. Raises OSError (a full disk)."""
        head = {"v": VERSION, "seq": self._seq, "time": round(time.time(), 3),
                "elapsed": round(time.monotonic() - self._began, 3), "type": type_}
        line = orjson.dumps(_encodable({**head, **fields}), option=orjson.OPT_APPEND_NEWLINE)
        # Counted also when it cannot be written: half of it may be there, and no two lines have one number.
        self._seq += 1
        self._write(b"\n" + line if self._torn else line)
        if durable:
            os.fsync(self._file)

    def _write(self, data: bytes) -> None:
        """All of it; where the disk fills up in its middle, the next line begins on a line of its own."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError as error:
            self._torn = self._torn or written > 0
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self._torn = False

    @property
    def in_place(self) -> bool:
        """Whether what is written is still found under the journal's name: not where its run was deleted or moved."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class JournalReader:
    """A follower of a JSON-lines file: each `read` gives what is new and complete. `corrupt` counts skipped lines.

    `generation` counts how often another file stood there, or a shorter one: what was read before is void then, and
    everything is given again from the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._file: tuple[int, int] | None = None
        self.corrupt = 0
        self.generation = 0

    def read(self) -> Iterator[Event]:
        """The complete lines since the last read, as objects; a missing file is an empty one."""
        try:
            with self._path.open("rb") as file:
                self._notice_another(file.fileno())
                yield from self._read(file.fileno())
        except FileNotFoundError:
            return

    def _notice_another(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        file = (found.st_dev, found.st_ino)
        if self._file is not None and (file != self._file or found.st_size < self._offset):
            self._offset = self.corrupt = 0
            self.generation += 1
        self._file = file

    def _read(self, descriptor: int) -> Iterator[Event]:
        pending = b""
        while chunk := os.pread(descriptor, _CHUNK, self._offset + len(pending)):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._offset += len(line) + 1
                event = _parse(line)
                if event is not None:
                    yield event
                elif line and not line.isspace():
                    self.corrupt += 1
            if len(pending) > _LONGEST_LINE:
                self.corrupt += 1
                self._offset += len(pending)
                pending = b""


def read_tail(path: Path, size: int = 1 << 16) -> list[Event]:
    """The complete events in the last `size` bytes of a journal, oldest first; where there is none in them (a long
    line, a damaged end), those in so many more bytes that there is one."""
    return _parse_lines(_last_lines(path, size)[:-1])


def _last_lines(path: Path, size: int = 1 << 16) -> list[bytes]:
    """The lines of the end of a file as `read_tail` bounds it; the last is what follows the last newline."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while True:
                file.seek(max(end - size, 0))
                lines = file.read(size).split(b"\n")[end > size:] or [b""]
                if size >= min(end, _LONGEST_LINE) or _parse_lines(lines[:-1]):
                    return lines
                size *= 8
    except FileNotFoundError:
        return [b""]


def _parse_lines(lines: list[bytes]) -> list[Event]:
    """The events among some lines."""
    return [event for event in map(_parse, lines) if event is not None]


def _parse(line: bytes) -> Event | None:
    """The event of a line, its text made safe; None for what is none."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(event, dict):
        return None
    # What we write was made safe before; a file may be damaged, or another's. Without these bytes it has no such text.
    plain = line.isascii() and b"\\" not in line and b"\x7f" not in line
    return event if plain else _sanitised(event)


def read_ends(path: Path, head: int = 1 << 15, tail: int = 1 << 16) -> list[Event]:
    """The complete events in the first `head` and the last `tail` bytes of a journal: how a run began and how it is."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return []
    if size <= head + tail:
        return read_tail(path, head + tail)
    with path.open("rb") as file:
        lines = file.read(head).split(b"\n")[:-1]
    return [*_parse_lines(lines), *read_tail(path, tail)]


def find_rest(path: Path) -> Event | None:
    """The `ended` or `paused` event with which a run came to rest; None while it goes on, or goes on again."""
    for event in reversed(read_tail(path)):
        if event.get("type") in ("ended", "paused"):
            return event
        if event.get("type") in ("queued", "started", "resumed", "restarted"):
            return None
    return None


def find_ending(path: Path) -> Event | None:
    """The `ended` event of a journal; None while there is none, and for a run that is paused."""
    rest = find_rest(path)
    return rest if rest is not None and rest["type"] == "ended" else None


def _sanitised(value: Any) -> Any:
    if isinstance(value, str):
        return sanitise(value)
    if isinstance(value, dict):
        return {sanitise(key): _sanitised(item) for key, item in value.items()}
    return [_sanitised(item) for item in value] if isinstance(value, list) else value


def _encodable(value: Any) -> Any:
    if isinstance(value, float):
        return encode_number(value)
    if isinstance(value, str):
        return redact(sanitise(value))
    if isinstance(value, dict):
        return {str(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value
