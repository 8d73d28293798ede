"""Secrets of the environment kept out of what a run writes: tokens, keys and passwords, by name and by look."""

import io
import os
import re
import sys
from functools import cache

_NAME = re.compile(r"(?:^|_)(?:TOKEN|API_?KEY|ACCESS_KEY|SECRET(?:_KEY)?|PASSWORD|PASSWD)$", re.IGNORECASE)
# Shorter values ("true", "1234") are words that stand everywhere.
_SHORTEST = 8
# What the Hub and the usual services hand out; a token that was stored by `hf auth login` is in no variable.
_LOOKS = re.compile(r"\b(?:hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16})\b")


def redact(text: str) -> str:
    """The text with every secret of this process's environment, and what looks like one, replaced by its name."""
    for value, name in _secrets():
        if value in text:
            text = text.replace(value, f"[{name} redacted]")
    return _LOOKS.sub("[token redacted]", text)


@cache
def _secrets() -> tuple[tuple[str, str], ...]:
    """(value, name), the longest first: one may hold another."""
    found = {value: name for name, value in os.environ.items() if _NAME.search(name) and len(value) >= _SHORTEST}
    return tuple(sorted(found.items(), key=lambda item: -len(item[0])))


class _RedactedStream(io.TextIOWrapper):
    """A text stream that writes no secret. What is printed is written whole, so a secret is seen in one piece."""

    def write(self, text: str, /) -> int:
        """Write the text without its secrets; the length is that of what was given."""
        super().write(redact(text))
        return len(text)


def redact_streams() -> None:
    """Let everything that Python code prints or logs in this process pass `redact`. To be called before any library
    takes hold of the streams; native code that writes by itself is not reached."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, _RedactedStream):
            setattr(sys, name, _RedactedStream(stream.detach(), encoding="utf-8", errors="backslashreplace",
                                               line_buffering=True, write_through=True))
