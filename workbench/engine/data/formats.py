"""What format the rows have, and every one of them as a conversation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.engine.data.sources import DataError, Row, read_rows

Message = dict[str, str]
_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Format:
    """A detected format: its `name`, and `why` it was taken for that."""

    name: str
    why: str


@dataclass(frozen=True)
class Conversations:
    """Rows as conversations, in the file's order: `rows[i]` is a list of {role, content}."""

    format: Format
    rows: tuple[tuple[Message, ...], ...]


def detect_format(row: Row, where: str) -> Format:
    """The format of a dataset by its first row's columns. Raises DataError naming the columns found."""
    columns = set(row)
    if "messages" in columns:
        return Format("messages", "it has a column `messages`")
    if {"prompt", "completion"} <= columns:
        return Format("prompt-completion", "it has columns `prompt` and `completion`")
    if {"instruction", "output"} <= columns:
        return Format("alpaca", "it has columns `instruction` and `output`")
    raise DataError(f"{where}: supervised fine-tuning cannot use the columns {', '.join(sorted(columns)) or '(none)'}.",
                    "It needs `messages`, or `prompt` + `completion`, or `instruction` (+ `input`) + `output`.")


def to_messages(row: Row, format_name: str, where: str) -> tuple[Message, ...]:
    """One row as a conversation that ends with the assistant. Raises DataError that says what is wrong, and `where`."""
    if format_name == "messages":
        messages = [_message(entry, where) for entry in _as_list(row.get("messages"), "messages", where)]
    elif format_name == "prompt-completion":
        messages = [*_turns(row.get("prompt"), "user", "prompt", where),
                    *_turns(row.get("completion"), "assistant", "completion", where)]
    else:
        instruction = _text(row.get("instruction"), "instruction", where)
        extra = row.get("input")
        prompt = f"{instruction}\n\n{extra}" if isinstance(extra, str) and extra.strip() else instruction
        messages = [{"role": "user", "content": prompt},
                    {"role": "assistant", "content": _text(row.get("output"), "output", where)}]
    if not messages or messages[-1]["role"] != "assistant":
        raise DataError(f"{where}: the conversation does not end with the assistant, so there is nothing to learn.")
    return tuple(messages)


def read_conversations(path: Path, max_rows: int | None = None) -> Conversations:
    """A whole local file as conversations. Raises DataError with file, line and reason at the first bad row."""
    detected: Format | None = None
    rows: list[tuple[Message, ...]] = []
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        detected = detected or detect_format(row, where)
        rows.append(to_messages(row, detected.name, where))
        if max_rows is not None and len(rows) >= max_rows:
            break
    if detected is None:
        raise DataError(f"{path} has no rows.")
    return Conversations(detected, tuple(rows))


def _turns(value: Any, role: str, column: str, where: str) -> list[Message]:
    if isinstance(value, list):
        return [_message(entry, where) for entry in value]
    return [{"role": role, "content": _text(value, column, where)}]


def _message(entry: Any, where: str) -> Message:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: a message is {type(entry).__name__}, not an object with role and content.")
    role = entry.get("role")
    if role not in _ROLES:
        raise DataError(f"{where}: {role!r} is not a role.", f"Roles: {', '.join(_ROLES)}.")
    return {"role": role, "content": _text(entry.get("content"), f"{role} content", where)}


def _as_list(value: Any, column: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where}: `{column}` is {type(value).__name__}, not a list.")
    return value


def _text(value: Any, column: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: `{column}` is {type(value).__name__}, not text.")
    if not value.strip():
        raise DataError(f"{where}: `{column}` is empty.")
    return value
