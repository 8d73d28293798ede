"""Our standard streams behind a filter: what is printed can neither tell a secret nor give a terminal an order."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from workbench.engine.redaction import redact
from workbench.engine.text import printable


class _FilteredStream(io.TextIOWrapper):
    """Writes to the buffer of another text stream. What is printed is written whole, so it is seen in one piece."""

    def __init__(self, stream: io.TextIOWrapper, through: Callable[[str], str]) -> None:
        super().__init__(stream.buffer, encoding=stream.encoding, errors="backslashreplace", line_buffering=True,
                         write_through=True)
        self._through = through

    def write(self, text: str, /) -> int:
        """Write the text as the filter gives it; the length is that of what was given."""
        super().write(self._through(text))
        return len(text)


def redact_streams() -> None:
    """Let everything that Python code prints or logs in this process pass `redact`, for good. To be called before any
    library takes hold of the streams; native code that writes by itself is not reached."""
    _filter(redact)


@contextmanager
def plain_streams() -> Iterator[None]:
    """Let everything that is printed inside pass `printable`: text that a command forgot to make safe is shown, not
    obeyed."""
    before = sys.stdout, sys.stderr
    ours = _filter(printable)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in ours:
            stream.detach()  # or it would close the buffer, which is not its own


def _filter(through: Callable[[str], str]) -> list[_FilteredStream]:
    made = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, _FilteredStream):
            stream.flush()
            made.append(_FilteredStream(stream, through))
            setattr(sys, name, made[-1])
    return made
