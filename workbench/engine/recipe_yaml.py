"""YAML for recipes: read without anything that makes it more than plain settings; written the way people write it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.representer import RoundTripRepresenter

from workbench.engine.errors import InputError
from workbench.engine.text import one_line

# The parser's time grows with both, with the depth even as its square.
_MOST_NODES, _DEEPEST = 20_000, 32


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe: the dotted `field` it concerns ("" for the whole), the 1-based `line` if known."""

    field: str
    message: str
    line: int | None = None


class RecipeError(InputError):
    """A recipe that cannot be used; `problems` holds every fault, the message is the first."""

    def __init__(self, source: str, problems: Sequence[Problem], hint: str | None = None) -> None:
        first = problems[0]
        where = f"{source}:{first.line}" if first.line else source
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{where}: {first.message}{more}", hint)
        self.problems = tuple(problems)


def load_yaml(text: str, source: str) -> Any:
    """A YAML value. Raises RecipeError, also for what a recipe never needs: see `_refusal`."""
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    try:
        depth = 0
        for number, event in enumerate(YAML(typ="rt").parse(io.StringIO(text))):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if refusal := _refusal(event, number, depth):
                raise RecipeError(source, [Problem("", refusal[0], event.start_mark.line + 1)], refusal[1])
        return yaml.load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise RecipeError(source, [Problem("", one_line(str(error.problem), 100), line)]) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        message = f"not valid YAML: {one_line(str(error.problem or error.context), 120)}"
        raise RecipeError(source, [Problem("", message, mark.line + 1 if mark else None)]) from None
    except (YAMLError, RecursionError, ValueError) as error:
        raise RecipeError(source, [Problem("", f"not valid YAML: {one_line(str(error), 120)}")]) from None


def _refusal(event: Any, number: int, depth: int) -> tuple[str, str] | None:
    """(what is wrong, what to do) of a part of a YAML text that would make it more than plain settings."""
    if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
        return "aliases and anchors (& and *) are not allowed in a recipe", "Write the value out."
    tag = getattr(event, "tag", None)
    if tag and not (isinstance(event, ScalarEvent) and str(tag) == "!"):
        return f"the tag {one_line(str(tag), 80)} is not allowed in a recipe", "Remove it."
    if isinstance(event, DocumentStartEvent) and (event.version or event.tags):
        return "directives (%YAML, %TAG) are not allowed in a recipe", "Remove the line: recipes are YAML 1.2."
    if isinstance(event, ScalarEvent) and event.value == "<<" and not event.style:
        return "merge keys (<<) are not allowed in a recipe", "Write the settings out."
    if isinstance(event, ScalarEvent) and "\0" in event.value:
        return "a NUL character is not allowed in a recipe", "Remove it."
    if depth > _DEEPEST or number > _MOST_NODES:
        return "too deep or too long for a recipe", f"At most {_DEEPEST} levels and {_MOST_NODES:,} values."
    return None


def plain(value: Any) -> Any:
    """YAML nodes as builtins; ruamel's number and string types are subclasses that would leak into the models."""
    if isinstance(value, Mapping):
        return {_whole_characters(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return _whole_characters(str(value))
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


def _whole_characters(text: str) -> str:
    """JSON writes a character beyond the first 65,536 as two escapes, which YAML takes for two halves."""
    try:
        return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return text  # half a character, which no setting takes


class _Representer(RoundTripRepresenter):
    """Writes text that is not plain words in double quotes; ruamel would fold some of it into other spaces."""

    def represent_text(self, text: str) -> Any:
        """A string; in double quotes where a character cannot be seen, or where it would be folded at several."""
        plain_words = "  " not in text and all(part.isprintable() for part in text.split("\n"))
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain_words else '"')


_Representer.add_representer(str, _Representer.represent_text)


def dump_yaml(data: Any) -> str:
    """Builtins, or a document that was read, as YAML text."""
    yaml = YAML(typ="rt")
    yaml.Representer = _Representer
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.allow_unicode = True
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()
