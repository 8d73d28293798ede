"""What an explanation is made of: sections of sentences, tables and bars, for the terminal, the screen and JSON."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header; the columns in `right` are right-aligned."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram: a label and a count for each bin."""

    labels: tuple[str, ...]
    counts: tuple[int, ...]


_LIKENESS = {"×": "x", "·": "*", "−": "-", "–": "-", "→": "->", "…": "...", "σ": "sigma", "β": "beta", "π": "pi",
             "λ": "lambda", "ρ": "rho", "ε": "epsilon", "\N{NO-BREAK SPACE}": " "}

Part = str | Table | Bars


@dataclass(frozen=True, slots=True)
class Section:
    """A title and what stands under it, in order."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to `workbench explain TOPIC`. `figures` are the numbers behind the text, unrounded, for `--json`."""

    topic: str
    title: str
    sections: tuple[Section, ...]
    figures: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As `workbench explain --json` shows it."""
        return {"topic": self.topic, "title": self.title, **self.figures}


def plain(value: float) -> str:
    """A number as in a formula, with a true minus."""
    return f"{value:g}".replace("-", "−")


def signed(value: float, digits: int = 4) -> str:
    """A small number with its sign, in fixed decimals, so that columns of them align."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def percent(share: float) -> str:
    """A share (1 = all) as a percentage in three significant figures; the space before the sign never breaks."""
    return f"{share * 100:.3g}\N{NO-BREAK SPACE}%"


def to_ascii(text: str) -> str:
    """The text for a terminal of seven-bit characters: Greek letters by name, signs by their nearest likeness."""
    for sign, likeness in _LIKENESS.items():
        text = text.replace(sign, likeness)
    return text.encode("ascii", "replace").decode()
