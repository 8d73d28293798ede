"""A template language: `[a|b]` chooses, `{slot}` names something and remembers it for the document."""

import random
import re

from workbench.worker.tiny_base.records import (
    Record,
    animals,
    capital,
    columns,
    foods,
    jobs,
    places,
    things,
    words,
)

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+?)(\d?)(?:\.(\w+))?\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=(hour|honest)|[aeiouAEIOU])(?!(?:one|use|uni|us[ei]|eu)\w*)")
_PRONOUNS = {"he": ("he", "she"), "his": ("his", "her"), "him": ("him", "her")}
_RECORDS = {"thing": things, "animal": animals, "food": foods, "job": jobs, "place": places}
_TOOLS = ("hammer", "saw", "ladder", "axe", "shovel", "screwdriver", "rope")


def plural(noun: str) -> str:
    """The plural of a regular English noun; the few irregular ones of the lists included."""
    irregular = {
        "knife": "knives",
        "shelf": "shelves",
        "wolf": "wolves",
        "mouse": "mice",
        "sheep": "sheep",
        "fish": "fish",
        "deer": "deer",
        "goose": "geese",
        "scarf": "scarves",
        "leaf": "leaves",
    }
    if noun in irregular:
        return irregular[noun]
    if noun.endswith(("s", "sh", "ch", "x")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return tidy(f"a {noun}")


def tidy(text: str) -> str:
    """One space between words, no space before a full stop, "an" before a vowel's sound."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([.,?!])", r"\1", text)
    return _ARTICLE.sub(lambda match: match[1] + "n ", text)


class Scene:
    """What one document talks about. The same slot is the same thing; `name`, `name2` … differ."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._bound: dict[str, Record | str] = {}
        self._female: dict[str, bool] = {}

    def choose(self, text: str) -> str:
        """`text` with every `[a|b]` replaced by one of its parts, innermost first."""
        while match := _CHOICE.search(text):
            text = text[: match.start()] + self.rng.choice(match[1].split("|")) + text[match.end() :]
        return text

    def fill(self, template: str) -> str:
        """The finished text of a template.

        Raises:
            KeyError: the template names a slot or a field that does not exist.
        """
        text = self.choose(template)
        while _SLOT.search(text):
            text = _SLOT.sub(lambda match: self._slot(match[1], match[2], match[3]), text)
        sentences = re.split(r"(?<=[.!?]) ", tidy(text))
        return " ".join(capital(sentence) for sentence in sentences)

    def _slot(self, kind: str, index: str, field: str | None) -> str:
        if kind.lower() in _PRONOUNS:
            self._bind("name", index)
            word = _PRONOUNS[kind.lower()][self._female[index]]
            return capital(word) if kind[0].isupper() else word
        if kind == "things":
            thing = self._bind("thing", index)
            assert isinstance(thing, Record)
            return plural(thing.name)
        value = self._bind(kind, index)
        if isinstance(value, str):
            return value
        return value[field] if field else value.name

    def _bind(self, kind: str, index: str) -> Record | str:
        slot = kind + index
        if slot not in self._bound:
            taken = [value for key, value in self._bound.items() if key.rstrip("123456789") == kind]
            self._bound[slot] = self._draw(kind, index, taken)
        return self._bound[slot]

    def _draw(self, kind: str, index: str, taken: list[Record | str]) -> Record | str:
        while True:
            value: Record | str
            if kind == "name":
                name, sex = self.rng.choice(columns("names"))
                self._female[index] = sex == "f"
                value = name
            elif kind == "tool":
                value = self.rng.choice(_TOOLS)
            elif kind in _RECORDS:
                value = self.rng.choice(_RECORDS[kind]())
            else:
                value = self.rng.choice(words()[kind])
            if value not in taken:
                return value
