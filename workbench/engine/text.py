"""Text that did not come from us: made safe for a terminal, or short enough for a line."""

import difflib
import re
from collections.abc import Iterable

# C0 but tab and newline, DEL and C1: together they start every escape sequence a terminal obeys.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Bidirectional overrides can make a line read as something it is not.
_BIDI = re.compile(r"[\u202a-\u202e\u2066-\u2069]")


def sanitise(text: str) -> str:
    """The text with carriage returns folded and every other control character made visible as `\\xNN`."""
    text = text.replace("\r\n", "\n")
    return _BIDI.sub(_visible, _CONTROL.sub(_visible, text))


# What our own output may hold besides text: colours, and the erasing of a line that is written anew.
_OURS = re.compile(r"(\x1b\[[0-9;]*[mK]|\r)")


def printable(text: str) -> str:
    """The text as a command may print it: its own colours stay, every other control character is made visible."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(part if number % 2 else sanitise(part) for number, part in enumerate(_OURS.split(text)))


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str, width: int) -> str:
    """The text on one line of at most `width` characters, ended by … where it was cut."""
    flat = " ".join(sanitise(text).split())
    return flat if len(flat) <= width else flat[: max(width - 1, 0)] + "…"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, if any is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def slug(name: str) -> str:
    """The name as the middle part of a run id: `[a-z0-9][a-z0-9._-]{0,39}`."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
    return cleaned[:40].rstrip("-._") or "run"
