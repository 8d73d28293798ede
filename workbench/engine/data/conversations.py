"""A whole local file as conversations, refused at its first bad row."""

from dataclasses import dataclass
from pathlib import Path

from workbench.engine.data.examples import Rejected, read_examples
from workbench.engine.data.formats import Format
from workbench.engine.data.sources import DataError
from workbench.engine.data.values import Message
from workbench.engine.recipe_data import DatasetPart


@dataclass(frozen=True)
class Conversations:
    """Rows as conversations, in the file's order: `rows[i]` is a list of {role, content}."""

    format: Format
    rows: tuple[tuple[Message, ...], ...]


def read_conversations(path: Path, max_rows: int | None = None) -> Conversations:
    """A whole local file as conversations. Raises DataError with file, line and reason at the first bad row."""
    formats: list[Format] = []
    rows: list[tuple[Message, ...]] = []
    for found in read_examples(DatasetPart(path=str(path)), "sft", None, on_format=formats.append):
        if isinstance(found, Rejected):
            raise DataError(f"{found.source}:{found.line}: {found.reason}.")
        rows.append(tuple(found.example["messages"]))
        if max_rows is not None and len(rows) >= max_rows:
            break
    return Conversations(formats[0], tuple(rows))
