"""Every recipe there can be, for hypothesis: made from the models themselves, so that a new setting is among them."""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from workbench.engine.recipe import Recipe

# All but NUL, and halves of characters, which no file name and no tokenizer takes.
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def recipes() -> st.SearchStrategy[dict[str, Any]]:
    """A recipe without stages, as plain data."""
    return _section(Recipe)


def _section(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """A section's settings, each there or left out."""
    fields = {name: _values(info.annotation, info.metadata) for name, info in model.model_fields.items()
              if name != "stages"}
    needed = {name: fields.pop(name) for name, info in model.model_fields.items() if info.is_required()}
    return st.fixed_dictionaries(needed, optional=fields)


def _values(annotation: Any, bounds: list[Any]) -> st.SearchStrategy[Any]:
    """What a field may hold, by its type and its bounds."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(inner[0], [*bounds, *(bound for part in inner[1:] for bound in getattr(part, "metadata", ()))])
    if origin in (Union, types.UnionType):
        return st.one_of([_values(one, bounds) for one in inner])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple:
        return st.lists(_values(inner[0], []), min_size=1, max_size=3)
    if origin is dict:
        return st.dictionaries(WORDS, WORDS, max_size=2)
    if issubclass(annotation, BaseModel):
        return _section(annotation)
    return _plain(annotation, {name: getattr(bound, name) for bound in bounds
                               for name in ("ge", "gt", "le", "lt", "max_length") if hasattr(bound, name)})


def _plain(kind: type, bounds: dict[str, Any]) -> st.SearchStrategy[Any]:
    if kind is int:
        return st.integers(bounds.get("ge"), bounds["lt"] - 1 if "lt" in bounds else bounds.get("le"))
    if kind is float:
        return st.floats(bounds.get("ge", bounds.get("gt")), bounds.get("lt"), allow_nan=False, allow_infinity=False,
                         exclude_min="gt" in bounds, exclude_max="lt" in bounds)
    return {str: WORDS, bool: st.booleans(), type(None): st.none()}[kind]
