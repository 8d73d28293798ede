"""Two recipes side by side: which settings differ, each by its dotted name with its old and its new value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.engine.recipe import Recipe
from workbench.engine.text import one_line

_MOST_LETTERS = 60


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting, dotted, and its values before and after as JSON has them; None where it is not set."""

    setting: str
    old: Any
    new: Any

    @property
    def words(self) -> str:
        """On one line: `training.learning_rate: 0.0002 → 6.7e-05`."""
        return f"{self.setting}: {value_words(self.old)} → {value_words(self.new)}"


def recipe_diff(before: Recipe, after: Recipe) -> tuple[str, ...]:
    """A line for each setting that differs, in the recipe's order."""
    return tuple(change.words for change in changed_settings(before, after))


def changed_settings(before: Recipe, after: Recipe) -> tuple[SettingChange, ...]:
    """Each setting that differs, in the recipe's order."""
    return tuple(_differences(before.model_dump(mode="json"), after.model_dump(mode="json"), ""))


def applied(recipe: Recipe, changes: Mapping[str, Any]) -> tuple[SettingChange, ...]:
    """What dotted settings would change of a recipe; those that it has already are left out."""
    data = recipe.model_dump(mode="json")
    found = (SettingChange(setting, _value(data, setting), new) for setting, new in changes.items())
    return tuple(change for change in found if change.old != change.new)


def value_words(value: Any) -> str:
    """A setting's value, safe and short."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return one_line(f"{value:g}" if isinstance(value, float) else str(value), _MOST_LETTERS)


def _differences(before: Any, after: Any, place: str) -> Iterator[SettingChange]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield SettingChange(place, before, after)
        return
    for name in dict.fromkeys([*before, *after]):
        yield from _differences(before.get(name), after.get(name), f"{place}.{name}" if place else name)


def _value(data: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data
