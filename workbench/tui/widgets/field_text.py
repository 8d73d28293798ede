"""What is typed into a form's field, as a recipe holds it, and back."""

import re
from collections.abc import Sequence
from typing import Any, Literal

FieldKind = Literal["scalar", "text", "names", "numbers", "sources"]
"""scalar: as YAML reads it. text: never a number. names, numbers: lists; one alone stays alone. sources: datasets."""

_WEIGHTED = re.compile(r"(?P<path>.*\S)\s*\*\s*(?P<weight>\d+(?:\.\d+)?)")


def read_text(text: str, kind: FieldKind) -> Any:
    """The value that the text of a field of a kind stands for; None for an empty one."""
    text = text.strip()
    if kind == "scalar":
        return text_to_value(text)
    if not text:
        return None
    if kind == "text":
        return text
    if kind == "sources":
        return _sources(text)
    # A comma alone may be part of a name, such as that of a regular expression.
    parts = [part.strip() for part in text.strip("[]").split(", " if kind == "names" else ",") if part.strip()]
    if kind == "numbers":
        return [number if isinstance(number := text_to_value(part), int | float) else part for part in parts]
    return parts if len(parts) > 1 else parts[0] if parts else None


def text_to_value(text: str) -> Any:
    """What the user typed, as YAML would read a scalar: a number, nothing, a list after commas, or text."""
    text = text.strip()
    if text in ("", "null", "~"):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if "," in text:
        return [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    return text


def value_to_text(value: Any) -> str:
    """The text that is read back as the value."""
    if value is None:
        return ""
    if isinstance(value, float):
        # 2e-4, as people write learning rates, not 0.0002.
        short = f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")
        return f"{value:.0e}".replace("e-0", "e-") if 0 < value < 1e-3 and float(f"{value:.0e}") == value else short
    if isinstance(value, list | tuple):
        return ", ".join(map(value_to_text, value))
    if isinstance(value, dict):
        weight = value.get("weight")
        return f"{value['path']}{'' if weight is None else f' *{weight:g}'}"
    return str(value)


def _sources(text: str) -> str | list[dict[str, Any]]:
    """`a.jsonl, b.jsonl *2` as a mixture; one path without a weight stays a path."""
    parts: list[dict[str, Any]] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        weighted = _WEIGHTED.fullmatch(part)
        parts.append({"path": weighted["path"], "weight": float(weighted["weight"])} if weighted else {"path": part})
    if len(parts) == 1 and "weight" not in parts[0]:
        return str(parts[0]["path"])
    return parts or text


def keep_part_settings(fresh: str | list[dict[str, Any]], before: str | Sequence[dict[str, Any]]) -> Any:
    """A typed mixture with what its parts already say beyond path and weight: format, columns, split, config."""
    if isinstance(fresh, str) or isinstance(before, str):
        return fresh
    known = {part["path"]: part for part in before}
    return [{**known.get(part["path"], {}), "weight": None, **part} for part in fresh]
