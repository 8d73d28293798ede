"""Recipes as YAML: strict reading with file and line, dotted overrides, writing that keeps comments."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml.comments import CommentedMap

from workbench.engine.atomic import write_atomic
from workbench.engine.errors import InputError
from workbench.engine.pipeline import says, stage_data
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_yaml import Problem, RecipeError, dump_yaml, load_yaml, plain
from workbench.engine.text import nearest, one_line

__all__ = ["Problem", "RecipeError", "load_recipe", "parse_recipe", "recipe_from_data", "recipe_to_yaml", "save_recipe",
           "update_yaml"]

MAX_RECIPE_BYTES = 1_000_000


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a file, with `key.sub=value` overrides applied. Raises RecipeError or InputError."""
    try:
        with path.open("rb") as file:  # a device or a pipe has no size to ask for
            data = file.read(MAX_RECIPE_BYTES + 1)
        if len(data) > MAX_RECIPE_BYTES:
            raise InputError(f"{path} is larger than 1 MB: this is not a recipe.")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from None
    except OSError as error:
        raise InputError(f"Cannot read the recipe {path}: {error.strerror}.") from None
    except ValueError:  # a NUL in the path
        raise InputError(f"Cannot read the recipe {path}: no file can be called so.") from None
    return parse_recipe(text, str(path), overrides)


def parse_recipe(text: str, source: str = "recipe", overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a YAML (or JSON) text. Raises RecipeError."""
    data = _read_yaml(text, source)
    settings: dict[str, Any] = plain(data)
    overridden = [_apply_override(settings, item) for item in overrides]
    return recipe_from_data(settings, source, data, overridden)


def recipe_from_data(data: dict[str, Any], source: str = "recipe", document: CommentedMap | None = None,
                     overridden: Sequence[str] = ()) -> Recipe:
    """The recipe that plain data describes; `document` is the YAML it came from, for lines. Raises RecipeError."""
    recipe = _validated(data, source, document, overridden)
    for number, stage in enumerate(stage_data(recipe)):
        own = data["stages"][number]
        if "stages" in own:
            raise RecipeError(source, [Problem(f"stages.{number}.stages", f"stages.{number}: a stage has no stages of "
                                               "its own", _line_of(["stages", number, "stages"], document))])
        _validated(stage, source, document, overridden, own, ["stages", number])
    return recipe


def _validated(data: dict[str, Any], source: str, document: CommentedMap | None, overridden: Sequence[str],
               own: Any = None, place: Sequence[Any] = ()) -> Recipe:
    """The recipe; what is wrong in a stage's `own` settings is said at its `place`."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        # A misspelt key is the likelier cause of a missing one than the other way round.
        entries = sorted(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
        problems = [_problem(entry, document, overridden, place if place and says(own, list(entry["loc"])) else ())
                    for entry in entries]
        raise RecipeError(source, problems) from None


def _read_yaml(text: str, source: str) -> CommentedMap:
    """The document of a recipe. Raises RecipeError."""
    data = load_yaml(text, source)
    if not isinstance(data, CommentedMap):
        what = "empty" if data is None else "not a mapping of settings"
        raise RecipeError(source, [Problem("", f"the recipe is {what}")], "It needs at least `model` and `dataset`.")
    return data


def _apply_override(data: dict[str, Any], item: str) -> str:
    key, equals, raw = item.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InputError(f"--set {item}: expected key=value.", "For example --set training.learning_rate=1e-4.")
    try:
        value = plain(load_yaml(raw, key)) if raw.strip() else None
    except RecipeError as error:
        raise InputError(f"--set {one_line(item, 120)}: {error.problems[0].message}.", error.hint) from None
    target: Any = data
    *parents, last = key.split(".")
    for parent in parents:
        if isinstance(target, list):
            if not parent.isdecimal() or len(parent) > 9 or int(parent) >= len(target):
                raise InputError(f"--set {item}: there is no {parent} in a list of {len(target)}; the first is 0.")
            inner = target[int(parent)]
        else:
            if isinstance(target.get(parent), str | list) and parent == "dataset":
                target[parent] = {"path": target[parent]}
            inner = target.setdefault(parent, {})
        if not isinstance(inner, dict | list):
            raise InputError(f"--set {item}: {parent} is a single value, not a section.")
        target = inner
    if isinstance(target, list):
        raise InputError(f"--set {item}: say what of it, such as {'.'.join(parents)}.0.name.")
    target[last] = value
    return key


def _problem(error: Any, data: CommentedMap | None, overridden: Sequence[str], place: Sequence[Any]) -> Problem:
    # A union adds its branches' names to the location; only real keys and indices are the user's words.
    kind = error["type"]
    *outer, last = error["loc"] or ("",)
    inner = [part for part in outer if not _names_a_branch(part)]
    if kind == "extra_forbidden" or not _names_a_branch(last):
        inner.append(last)
    location = [*place, *inner]
    field = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        known = known_fields(inner[:-1])
        guess = nearest(str(location[-1]), known)
        meant = f"; did you mean {guess}?" if guess else f"; known here: {', '.join(known)}" if known else ""
        message = f"{field} is not a setting{meant}"
    elif kind == "missing":
        message = f"{field} is missing"
    elif kind == "value_error":
        message = f"{field}: {error['ctx']['error']}"
    else:
        given = one_line(repr(error["input"]), 40)
        detail = "input should be a section of settings" if kind == "model_type" else \
            error["msg"][0].lower() + error["msg"][1:]
        message = f"{field} is {given}: {detail}"
    if field in overridden:
        return Problem(field, f"--set {message}")
    return Problem(field, message, _line_of(location, data))


def _names_a_branch(part: object) -> bool:
    return isinstance(part, str) and ("[" in part or part == "function")


def known_fields(location: Sequence[Any]) -> list[str]:
    """The names of the settings in a section, given by its path from the top (empty: the top itself)."""
    model: type[BaseModel] = Recipe
    for part in location:
        if isinstance(part, int):
            continue  # of a list: its sections are all of one kind
        info = model.model_fields.get(str(part))
        inner = _section_in(info.annotation) if info is not None else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The kind of section that a field holds, alone, in a list or among other kinds of values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _line_of(location: Sequence[Any], data: Any) -> int | None:
    line = None
    for part in location:
        if part == "path" and isinstance(data, list):
            continue  # a list of parts stands for the section that holds it
        try:
            line = (data.lc.key(part) if isinstance(data, CommentedMap) else data.lc.item(part))[0] + 1
            data = data[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def recipe_to_yaml(recipe: Recipe, full: bool = False) -> str:
    """The recipe as YAML: only what differs from the defaults, or everything when `full`."""
    data = recipe.model_dump(mode="json", exclude_defaults=not full)
    ordered = {key: data[key] for key in Recipe.model_fields if key in data}
    return dump_yaml(ordered)


def update_yaml(text: str, recipe: Recipe) -> str:
    """`text`, a recipe, changed to say what `recipe` says; comments, order and untouched values stay as they are."""
    document = _read_yaml(text, "recipe")
    before = parse_recipe(text).model_dump(mode="json")
    _merge(document, before, recipe.model_dump(mode="json"))
    return dump_yaml(document)


def _merge(document: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for key, value in after.items():
        if value == before.get(key):
            continue
        if isinstance(value, dict):
            if not isinstance(document.get(key), CommentedMap):
                alone = document.get(key)
                if isinstance(alone, list):
                    document.ca.items.pop(key, None)  # the list keeps its comment
                document[key] = {"path": alone} if isinstance(alone, str | list) else {}
            _merge(document[key], before.get(key) or {}, value)
        else:
            document[key] = value


def save_recipe(path: Path, recipe: Recipe, origin: Path | None = None) -> None:
    """Write a recipe; when it came from the file `origin`, that file's comments and order are kept.

    Raises InputError where it cannot be written.
    """
    try:
        text = update_yaml(origin.read_text(encoding="utf-8-sig"), recipe) if origin else recipe_to_yaml(recipe)
        write_atomic(path, text.encode())
    except OSError as error:
        raise InputError(f"Cannot save {path}: {error.strerror}.") from None
