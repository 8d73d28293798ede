"""Commands to a run: appended to its control file, each acknowledged by an event."""

import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

from workbench.engine.errors import RunError
from workbench.engine.runs.directory import RunDirectory, numbered
from workbench.engine.runs.journal import Event, JournalReader, find_rest
from workbench.engine.runs.liveness import lock_holder

CommandName = Literal["stop", "pause", "save", "sample"]
COMMANDS: tuple[str, ...] = get_args(CommandName)


@dataclass(frozen=True)
class Command:
    """One command, with an id that its acknowledgement repeats."""

    id: str
    name: str


def send_command(run: RunDirectory, name: CommandName) -> Command:
    """Append a command to the run's control file. Raises RunError when nobody is there to obey, or it cannot be
    written."""
    rest = find_rest(run.events)
    # One that failed may be started again by its supervisor, which must hear of a stop before it does.
    at_rest = rest is not None and rest.get("outcome") != "failed"
    if at_rest or lock_holder(run.lock) is None:
        raise RunError(f"{run.id} is not running, so it cannot {name}.", f"See its end: workbench show {run.id}")
    command = Command(secrets.token_hex(4), name)
    line = orjson.dumps({"id": command.id, "command": name, "time": round(time.time(), 3)}) + b"\n"
    # One write under O_APPEND: two screens cannot tear each other's lines.
    try:
        while not _append(run, line):
            pass
    except OSError as error:
        raise RunError(f"{run.id} cannot be told to {name}: {error.strerror}.") from None
    return command


def _append(run: RunDirectory, line: bytes) -> bool:
    """Whether it stands where commands are read: a supervisor may have set the file aside between the two."""
    descriptor = os.open(run.control, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
        return os.path.samestat(os.fstat(descriptor), os.stat(run.control))
    except FileNotFoundError:
        return False
    finally:
        os.close(descriptor)


class ControlReader:
    """A follower of a run's control file."""

    def __init__(self, run: RunDirectory, is_old: Callable[[Mapping[str, Any]], bool] = lambda _: False) -> None:
        """`is_old` tells of a line, {id, command, time}, whether a process before this one answered it."""
        self._run = run
        self._reader = JournalReader(run.control)
        self._is_old = is_old
        self._lines = 0

    def read(self) -> list[Command]:
        """The commands since the last read; lines that are no command are left out."""
        entries = list(self._reader.read())
        self._lines += len(entries)
        return self._commands(entries)

    def set_aside(self) -> list[Command]:
        """Put the commands so far out of a next worker's sight: they were for the one before. Those that were not read
        yet are given. Raises OSError."""
        if not self._run.control.exists():
            return []
        aside = numbered(self._run.path, "control-{}.jsonl")
        os.rename(self._run.control, aside)
        unread = list(JournalReader(aside).read())[self._lines:]
        self._reader, self._lines = JournalReader(self._run.control), 0
        return self._commands(unread)

    def _commands(self, entries: Iterable[Event]) -> list[Command]:
        return [Command(str(entry.get("id", "")), entry["command"]) for entry in entries
                if entry.get("command") in COMMANDS and not self._is_old(entry)]
