"""The hand-written word and fact lists under `data/`, read into frozen records."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"

_HOME_ON = {"farm", "cold coast", "beach"}
_ROOM_IN = {
    "kitchen",
    "bedroom",
    "bathroom",
    "living room",
    "garden",
    "library",
    "forest",
    "park",
    "museum",
    "village",
    "city",
    "office",
    "desert",
    "house",
    "street",
    "hills",
    "mine",
    "workshop",
    "theatre",
}


@dataclass(frozen=True)
class Record:
    """One noun with its facts; `fields` are what a template may ask for after a dot."""

    name: str
    fields: dict[str, str]

    def __getitem__(self, key: str) -> str:
        return self.fields[key]


def capital(text: str) -> str:
    """The text with its first letter in upper case; the rest untouched."""
    return text[:1].upper() + text[1:]


@cache
def lines(name: str) -> list[str]:
    """The lines of `data/<name>.txt`, without blank lines and comments."""
    text = (DATA / f"{name}.txt").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


@cache
def blocks(name: str) -> list[str]:
    """The templates of `data/<name>.txt`, which `---` separates."""
    text = (DATA / f"{name}.txt").read_text(encoding="utf-8")
    return [" ".join(block.split()) for block in text.split("\n---\n")]


@cache
def facts(name: str) -> list[list[str]]:
    """The lines of a file whose parts are separated by `=>`."""
    return [[part.strip() for part in line.split("=>")] for line in lines(name)]


@cache
def columns(name: str) -> list[list[str]]:
    """The lines of a file whose parts are separated by `;`."""
    return [[part.strip() for part in line.split(";")] for line in lines(name)]


def at(place: str) -> str:
    """`place` with the preposition it takes: "in the kitchen", "at the station"."""
    return f"{'in' if place in _ROOM_IN else 'at'} the {place}"


def _records(name: str, keys: tuple[str, ...]) -> list[Record]:
    rows = []
    for row in columns(name):
        fields = dict(zip(keys, row[1:], strict=True))
        fields["cap"] = capital(row[0])
        if "home" in fields:
            fields["in_home"] = f"{'on' if fields['home'] in _HOME_ON else 'in'} the {fields['home']}"
        if name == "foods":
            mass = not row[0].endswith("s")
            fields["are"], fields["s"] = ("is", "s") if mass else ("are", "")
        rows.append(Record(row[0], fields))
    return rows


@cache
def things() -> list[Record]:
    """Everyday objects."""
    return _records("things", ("kind", "use", "place", "material"))


@cache
def animals() -> list[Record]:
    """Animals."""
    return _records("animals", ("kind", "home", "food", "can", "legs", "size"))


@cache
def foods() -> list[Record]:
    """Food and drink."""
    return _records("foods", ("kind", "colour", "taste", "from"))


@cache
def jobs() -> list[Record]:
    """Professions."""
    return _records("jobs", ("does", "place"))


@cache
def places() -> list[Record]:
    """Rooms, buildings and landscapes."""
    return _records("places", ("def", "has"))


@cache
def words() -> dict[str, list[str]]:
    """Plain word lists by kind: adjectives, feelings, times …"""
    table = {}
    for line in lines("words"):
        kind, _, items = line.partition(":")
        table[kind] = [item.strip() for item in items.split(",")]
    table["field"] = [term for row in columns("field_terms") for term in row]
    return table
