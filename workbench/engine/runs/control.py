"""Commands to a run: appended to its control file, each acknowledged by an event."""

import os
import secrets
import time
from dataclasses import dataclass
from typing import Literal, get_args

import orjson

from workbench.engine.errors import RunError
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import JournalReader, find_rest
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
    if find_rest(run.events) is not None or lock_holder(run.lock) is None:
        raise RunError(f"{run.id} is not running, so it cannot {name}.", f"See its end: workbench show {run.id}")
    command = Command(secrets.token_hex(4), name)
    line = orjson.dumps({"id": command.id, "command": name, "time": round(time.time(), 3)}) + b"\n"
    # One write under O_APPEND: two screens cannot tear each other's lines.
    try:
        descriptor = os.open(run.control, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunError(f"{run.id} cannot be told to {name}: {error.strerror}.") from None
    return command


class ControlReader:
    """A follower of a run's control file."""

    def __init__(self, run: RunDirectory) -> None:
        self._reader = JournalReader(run.control)

    def read(self) -> list[Command]:
        """The commands since the last read; lines that are no command are left out."""
        return [Command(str(entry.get("id", "")), entry["command"])
                for entry in self._reader.read() if entry.get("command") in COMMANDS]
