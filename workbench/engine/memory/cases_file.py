"""Cases in JSON lines, as `workbench estimate --cases` reads them: one case a line in, one result a line out."""

import difflib
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

import orjson

from workbench.engine.catalog.architecture import Architecture, architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.estimate import estimate_memory

_FIELDS = {field.name: field for field in fields(MemoryCase)}
_HINTS = typing.get_type_hints(MemoryCase)
_MODEL_KEYS = ("model", "model_config", "reward_model", "reward_model_config")
_KEYS = ("id", *_MODEL_KEYS, *_FIELDS)


def results(lines: Iterable[bytes], base_dir: Path | None) -> Iterator[dict[str, Any]]:
    """The result of each line, in order; blank lines have none. A bad case gives {"id", "error"}, and never raises.

    A `model` that is a folder is looked for in `base_dir`.
    """
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(b"\xef\xbb\xbf").strip()
        if text:
            yield _result(text, number, base_dir)


def _result(line: bytes, number: int, base_dir: Path | None) -> dict[str, Any]:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        where = f"Line {number} is not JSON from column {error.colno} on"
        return {"id": None, "line": number, "error": f"{where}: {error.msg}."}
    if not isinstance(document, dict):
        return {"id": None, "line": number, "error": f"Line {number} is no JSON object."}
    identity = document.get("id")
    try:
        architecture, case = parse_case(document, base_dir)
        return {"id": identity, **asdict(estimate_memory(architecture, case))}
    except InputError as error:
        return {"id": identity, "error": _one_sentence(error)}
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # A config.json is somebody else's file: whatever a strange one does must not keep the other cases waiting.
        return {"id": identity, "error": f"This case cannot be estimated: {type(error).__name__}: {error}."}


def _one_sentence(error: InputError) -> str:
    if not error.hint:
        return error.message
    hint = error.hint.rstrip(".")
    return f"{error.message.rstrip('.')} ({hint[0].lower()}{hint[1:]})."


def parse_case(document: dict[str, Any], base_dir: Path | None = None) -> tuple[Architecture, MemoryCase]:
    """The model and the set-up that a case describes; what it leaves out, or gives as null, has the default.

    Raises InputError for an unknown key, a wrong type, a value outside its choices, or an unknown model.
    """
    for key in document:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.0)
            raise InputError(f"The key {key!r} is not known; the nearest is {close[0]!r}.")
    given = {key: value for key, value in document.items() if value is not None}
    config = _config(given, "model", base_dir)
    if config is None:
        raise InputError("The case has neither model nor model_config.")
    architecture = architecture_from_config(config)
    values = {name: _checked_type(name, given[name]) for name in _FIELDS if name in given}
    if values.get("quantization", "none") == "none" and (stored := _stored_quantization(config)):
        values["quantization"] = stored
    reward_config = _config(given, "reward_model", base_dir)
    if reward_config is not None:
        reward = architecture_from_config(reward_config)
        # A score layer in place of the head.
        values["reward_parameters"] = (
            reward.parameters - reward.parameters_by_module["head"] + reward.hidden_size
        )
    return architecture, MemoryCase(**values)


# Weights in these formats are trained as 16-bit ones: transformers dequantises them as it loads (Mxfp4Config), and
# 8-bit floats train in no other way.
_WIDENED = ("mxfp4", "fp8")


def _stored_quantization(config: dict[str, Any]) -> str | None:
    """The `quantization` in which a config says its weights are stored: from_pretrained keeps to it. Raises InputError
    for a format that is not estimated."""
    stored = config.get("quantization_config")
    if not isinstance(stored, dict):
        return None
    method = stored.get("quant_method")
    if method == "bitsandbytes" or (method is None and (stored.get("load_in_4bit") or stored.get("load_in_8bit"))):
        if stored.get("load_in_8bit"):
            return "int8"
        return "nf4-double" if stored.get("bnb_4bit_use_double_quant") else "nf4"
    if method is None or method in _WIDENED:
        return None
    raise InputError(f"By its quantization_config the base is stored as {_shown(method)}, which is not estimated.",
                     hint="Leave quantization_config out for a 16-bit base, or give quantization for a 4-bit one.")


def _config(given: dict[str, Any], key: str, base_dir: Path | None) -> dict[str, Any] | None:
    """The config of the model that is named under `key`, or described under `key`_config."""
    name, config = given.get(key), given.get(f"{key}_config")
    if name is not None and config is not None:
        raise InputError(f"The case has both {key} and {key}_config.", hint="Give one of them.")
    if config is not None:
        if not isinstance(config, dict):
            raise InputError(f"{key}_config must be an object as in config.json, not {_shown(config)}.")
        return config
    if name is None:
        return None
    if not isinstance(name, str):
        raise InputError(f"{key} must be a name or a path, not {_shown(name)}.")
    source = resolve_model(name, base_dir)
    if source.kind == "hub":
        raise InputError(f"The model {name!r} is neither on this disk nor in the catalogue.",
                         hint=f"Give its config.json as {key}_config.")
    return source.config


def _checked_type(name: str, value: Any) -> Any:
    hint = _HINTS[name]
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if option is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if option is bool and isinstance(value, bool):
            return value
        if (option is str or typing.get_origin(option) is Literal) and isinstance(value, str):
            return value
        if typing.get_origin(option) is tuple and isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
    words = " or ".join(_WORDS.get(option, "text") for option in options if option is not type(None))
    raise InputError(f"{name} must be {words}, not {_shown(value)}.")


_WORDS: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", tuple[str, ...]: "a list of names",
}


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 40 else f"{text[:37]}…"
