"""Files that are either the old version or the new one, never half of each."""

import os
import tempfile
from pathlib import Path

import orjson


def write_atomic(path: Path, data: bytes, durable: bool = True) -> None:
    """Replace `path` by `data` (mode 0600). `durable` also survives a power cut: it fsyncs file and directory."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        fsync_path(path.parent)


def write_json(path: Path, document: object, durable: bool = True) -> None:
    """Replace `path` by the document as indented JSON."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    write_atomic(path, orjson.dumps(document, option=options), durable)


def fsync_path(path: Path) -> None:
    """Make a file's content, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
