"""Secrets of the environment kept out of what a run writes: tokens, keys and passwords, by name and by look."""

import os
import re
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
