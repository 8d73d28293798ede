"""The journal of a run: append-only JSON lines, one writer, readers that never trip over half a line."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import orjson

from workbench.engine.text import sanitise

VERSION = 1
_CHUNK = 1 << 20
# Longer lines are not ours; a reader must not hold an endless one in memory.
_LONGEST_LINE = 1 << 24

Event = dict[str, Any]


def encode_number(value: float) -> float | str:
    """A number as JSON can carry it: NaN and infinities as "nan", "inf", "-inf"; JSON itself would make them null."""
    return value if math.isfinite(value) else str(float(value))


def decode_number(value: object) -> float | None:
    """The number that `encode_number` wrote; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    return float(value) if value in ("nan", "inf", "-inf") else None


class Journal:
    """The one writer of an events file. Each event is one `write`, so a kill leaves at most one partial last line."""

    def __init__(self, path: Path) -> None:
        """Opens for appending; continues the sequence, and seals a partial last line left by a killed writer."""
        tail = read_tail(path)
        self._seq = max((event["seq"] for event in tail if isinstance(event.get("seq"), int)), default=-1) + 1
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        # Goes on from what the writer before counted: a run's time is that in which it was attended.
        counted = max((decode_number(event.get("elapsed")) or 0.0 for event in tail), default=0.0)
        self._began = time.monotonic() - counted
        if _ends_mid_line(path):
            os.write(self._file, b"\n")

    def append(self, type_: str, /, durable: bool = False, **fields: Any) -> None:
        """Write one event; `durable` makes it survive a power cut. Raises OSError (a full disk)."""
        head = {"v": VERSION, "seq": self._seq, "time": round(time.time(), 3),
                "elapsed": round(time.monotonic() - self._began, 3), "type": type_}
        line = orjson.dumps(_encodable({**head, **fields}), option=orjson.OPT_APPEND_NEWLINE)
        os.write(self._file, line)
        self._seq += 1
        if durable:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class JournalReader:
    """A follower of a JSON-lines file: each `read` gives what is new and complete. `corrupt` counts skipped lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.corrupt = 0

    def read(self) -> Iterator[Event]:
        """The complete lines since the last read, as objects; a missing file is an empty one."""
        try:
            with self._path.open("rb") as file:
                yield from self._read(file.fileno())
        except FileNotFoundError:
            return

    def _read(self, descriptor: int) -> Iterator[Event]:
        pending = b""
        while chunk := os.pread(descriptor, _CHUNK, self._offset + len(pending)):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._offset += len(line) + 1
                event = self._parse(line)
                if event is not None:
                    yield event
            if len(pending) > _LONGEST_LINE:
                self.corrupt += 1
                self._offset += len(pending)
                pending = b""

    def _parse(self, line: bytes) -> Event | None:
        if not line.strip():
            return None
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            event = None
        if isinstance(event, dict):
            return event
        self.corrupt += 1
        return None


def read_tail(path: Path, size: int = 1 << 16) -> list[Event]:
    """The complete events in the last `size` bytes of a journal, oldest first."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - size, 0))
            data = file.read()
    except FileNotFoundError:
        return []
    lines = data.split(b"\n")[:-1]
    return _parse_lines(lines if end <= size else lines[1:])


def _parse_lines(lines: list[bytes]) -> list[Event]:
    """The events among some lines."""
    events = []
    for line in lines:
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


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


def _ends_mid_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _encodable(value: Any) -> Any:
    if isinstance(value, float):
        return encode_number(value)
    if isinstance(value, str):
        return sanitise(value)
    if isinstance(value, dict):
        return {str(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value
