"""Checked reading of one config: fields, their other names, and the defaults of transformers' config class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from workbench.engine.errors import InputError
from workbench.engine.paths import assets_dir

# Larger than any published model by orders of magnitude: catches a wrong unit or a hostile file, nothing else.
_LARGEST_DIMENSION = 100_000_000


@cache
def config_defaults() -> dict[str, dict[str, Any]]:
    """By `model_type`: `fields` as transformers' config class sets them, and `aliases` (its `attribute_map`).

    Written by tests/tools/config_defaults.py from the installed transformers, and compared with it by a test.
    """
    defaults: dict[str, dict[str, Any]] = orjson.loads((assets_dir() / "config_defaults.json").read_bytes())
    return defaults


@dataclass(frozen=True, slots=True)
class ConfigReader:
    """Reads checked fields of one config; errors name the field and the family."""

    config: Mapping[str, Any]
    model_type: str

    def value(self, field: str) -> Any:
        """The field as written, under either of its names; where it is left out, the config class's default."""
        defaults = config_defaults()[self.model_type]
        alias = defaults["aliases"].get(field)
        for name in (field, alias):
            if name is not None and name in self.config:
                return self.config[name]
        return defaults["fields"].get(field, defaults["fields"].get(alias))

    def name(self, field: str) -> str:
        """The field's name as this config writes it."""
        alias = config_defaults()[self.model_type]["aliases"].get(field)
        return str(alias) if alias in self.config and field not in self.config else field

    def size(self, field: str, default: int | None = None) -> int:
        """A positive whole number; `default` stands for null. Raises InputError."""
        value = self.value(field)
        if value is None:
            value = default
        if value is None:
            raise self.missing(field)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST_DIMENSION:
            raise self.wrong(field, "which is no positive whole size")
        return value

    def count(self, field: str, default: int = 0) -> int:
        """A whole number that may be 0; `default` stands for null. Raises InputError."""
        value = self.value(field)
        return default if value is None else 0 if value == 0 and not isinstance(value, bool) else self.size(field)

    def flag(self, field: str, default: bool = False) -> bool:
        """True or false; `default` stands for null. Raises InputError."""
        value = self.value(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(field, "neither true nor false")
        return value

    def share(self, field: str) -> float:
        """A number from 0 up to but not including 1, such as a dropout's probability; 0 stands for null."""
        value = self.value(field)
        if value is None:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise self.wrong(field, "which is no share below 1")
        return float(value)

    def text(self, field: str, default: str) -> str:
        """A word, such as the activation's name."""
        value = self.value(field)
        return value if isinstance(value, str) else default

    def items(self, field: str, length: int) -> Sequence[Any] | None:
        """A list with an entry a layer, or None where it is left out. Raises InputError for another length."""
        value = self.value(field)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != length:
            raise self.wrong(field, f"which has no entry for each of {length} layers")
        return value

    def indices(self, field: str) -> frozenset[int]:
        """A list of layer numbers; empty where it is left out. Raises InputError."""
        value = self.value(field)
        if value is None:
            return frozenset()
        if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
            raise self.wrong(field, "which is no list of layers")
        return frozenset(value)

    def given(self, field: str) -> bool:
        """Whether the config itself says it, rather than its class."""
        alias = config_defaults()[self.model_type]["aliases"].get(field)
        return any(self.config.get(name) is not None for name in (field, alias) if name)

    def missing(self, field: str) -> InputError:
        """The error for a field that has neither a value nor a default."""
        return InputError(f"The {self.model_type} config has no {self.name(field)}.",
                          hint="Is this the whole config.json?")

    def wrong(self, field: str, words: str) -> InputError:
        """The error for a value that cannot be what the field says, under the name that the config writes."""
        return InputError(f"The {self.model_type} config has {self.name(field)} = {self.value(field)!r}, {words}.")

    def refuse(self, words: str) -> InputError:
        """The error for a setting that no row describes, with the way out."""
        return InputError(f"This {self.model_type} config {words}, which is not described.", hint=REHEARSAL_HINT)


REHEARSAL_HINT = '"workbench rehearse" (ctrl+r in Plan) counts it from the library itself.'
