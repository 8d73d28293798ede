"""Recipes that mean harm or nothing are refused in a sentence, soon; what is valid stays the same on every way."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.recipe_values import recipes
from workbench.engine.errors import InputError
from workbench.engine.paths import recipes_dir, runs_dir
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import RecipeError, load_recipe, parse_recipe, recipe_to_yaml, update_yaml
from workbench.engine.runs.directory import create_run_directory

MINIMAL = "model: tiny-base\ndataset: glossary\n"
SHIPPED = sorted(recipes_dir().rglob("*.yaml"))


@given(data=recipes())
@example(data={"model": "a" * 130 + "   " + "b" * 130, "dataset": "c\x85d", "samples": {"prompts": ["1  2\n\n 3 "]}})
@settings(max_examples=40, deadline=None)
def test_a_recipe_is_the_same_after_every_way_of_writing_it(data: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(data)
    for full in (False, True):
        assert parse_recipe(recipe_to_yaml(recipe, full)) == recipe
    assert parse_recipe(update_yaml(MINIMAL, recipe)) == recipe
    assert parse_recipe(json.dumps(recipe.model_dump(mode="json"))) == recipe
    assert parse_recipe(MINIMAL, overrides=list(_settings(recipe.model_dump(mode="json")))) == recipe


def _settings(data: dict[str, Any], prefix: str = "") -> list[str]:
    """Every value as `--set` takes it."""
    found = []
    for key, value in data.items():
        if isinstance(value, dict) and key != "columns":
            found += _settings(value, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}={json.dumps(value)}")
    return found


SNIPPETS = ["&a ", "*a", "!!python/object:os.system ", "<<: ", "{", "}", "[", "]", ": ", "- ", "\n", "  ", "\t", "'",
            '"', "|\n", ">-\n", "%YAML 1.1\n---\n", "---\n", "...", "? ", "#", "\0", "\ufeff", "\x85", "\u2028", "null",
            "~", ".inf", "9" * 400, "1e999", "0x", "2024-01-01", "!", "@", "`", "\\ud800", "😀", "name: ",
            "stages:\n  - "]


def mutated(text: str, seed: int) -> str:
    """The text with some of it removed, doubled, moved or overwritten."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 8)):
        at, to = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        to = min(to, at + 40)
        snippet = chance.choice(["", *SNIPPETS])
        text = chance.choice([text[:at] + snippet + text[to:], text[:at] + snippet + text[at:], text[:to] + text[at:]])
    return text


@given(path=st.sampled_from(SHIPPED), seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_a_damaged_recipe_is_refused_or_read_and_nothing_else(path: Path, seed: int) -> None:
    try:
        recipe = parse_recipe(mutated(path.read_text(), seed))
    except InputError:
        return
    assert parse_recipe(recipe_to_yaml(recipe)) == recipe


@given(st.text(max_size=200))
@example("? {a: b}\n: c\n")
@example("a[0]: 1\n")
@settings(max_examples=200, deadline=None)
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for attempt in (lambda: parse_recipe(MINIMAL + text), lambda: parse_recipe(text),
                    lambda: parse_recipe(MINIMAL, overrides=[text]),
                    lambda: parse_recipe(MINIMAL, overrides=[f"name={text}"])):
        _only_refused(attempt)


def _only_refused(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except InputError as error:
        return error.message
    return ""


BOMB = "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20))
MEGABYTE = 990_000


@pytest.mark.parametrize(("text", "words"), [
    ("name: !!python/object/apply:os.system [touch pwned]\n", "tag"),
    ("name: !!python/name:os.system\n", "tag"),
    ("name: !exec x\n", "tag"),
    ("training: !!map {seed: 1}\n", "tag"),
    ("a: &a [x, x]\n" + BOMB, "aliases and anchors"),
    ("name: &n x\n", "aliases and anchors"),
    ("<<: {tuning: full}\n", "merge keys"),
    ("training: {<<: {seed: 1}}\n", "merge keys"),
    ("training: {seed: 1, seed: 2}\n", "duplicate key"),
    ("model: b\n", "duplicate key"),
    ("---\nmodel: a\n", "another document"),
    ("name: \"a\\0b\"\n", "NUL"),
    ("name: \"\\ud800\"\n", "unicode"),
    ("training: {packing: yes}\n", "'yes': input should be a valid boolean"),
    ("training: {packing: on}\n", "'on': input should be a valid boolean"),
    ("training: {packing: 1}\n", "valid boolean"),
    ("tuning: no\n", "'no': input should be 'full'"),
    ("training: {max_steps: 1:30}\n", "'1:30': input should be a valid integer"),
    ("training: {max_steps: " + "9" * 5000 + "}\n", "4300 digits"),
    ("training: {max_steps: " + "9" * 30 + "}\n", "less than or equal"),
    ("training: {seed: 4294967296}\n", "less than 4294967296"),
    ("training: {learning_rate: .inf}\n", "finite"),
    ("training: {learning_rate: 1e999}\n", "finite"),
    ("name: 2024-01-01\n", "valid string"),
    ("name: " + "[" * 100_000, "too deep"),
    ("name: " + "[" * 60 + "]" * 60, "too deep"),
    ("name:\n" + "".join(" " * n + "-\n" for n in range(1, 1300)), "too deep"),
    ("name: " + "{a: " * 100_000, "too deep"),
    ("samples: {prompts: [" + "x," * (MEGABYTE // 2) + "x]}\n", "too long"),
    ("".join(f"k{n}: 1\n" for n in range(60_000)), "too long"),
    ("name: " + "x" * MEGABYTE + "\n", "at most 64 characters"),
    ("? {a: b}\n: c\n", "is not a setting"),
    ("training: {attn_implementation: kernels-community/flash-attn}\n", "'eager', 'sdpa' or 'flash_attention_2'"),
    ("training: {attn_implementation: 'evil/kernel@main:attack'}\n", "'eager', 'sdpa' or 'flash_attention_2'"),
    ("training: {hub_token: hf_x}\n", "is not a setting"),
    ("trust_remote_code: true\n", "is not a setting"),
])
def test_an_attack_is_refused_in_one_sentence(text: str, words: str, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(MINIMAL + text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600 + len(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.yaml"], "nothing ran"


def test_directives_are_refused() -> None:
    for line in ("%YAML 1.1", "%TAG ! tag:example.org,2000:"):
        with pytest.raises(RecipeError, match="directives"):
            parse_recipe(f"{line}\n---\n{MINIMAL}")


@pytest.mark.parametrize("override", [
    "model=!!python/object/apply:os.system [touch pwned]", "samples.prompts=[&a x, *a]", "name=" + "[" * 5000,
    "training.seed=" + "9" * 5000, "name=\0", "training={<<: {seed: 1}}", "name=a: b: c",
    "stages.99999999999999999999.x=1",
])
def test_what_is_set_on_the_command_line_is_read_as_strictly(override: str) -> None:
    with pytest.raises(InputError):
        parse_recipe(MINIMAL, overrides=[override])


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "a\0b", "/proc/self/mem"])
def test_what_is_no_file_is_refused(path: str) -> None:
    assert _only_refused(lambda: load_recipe(Path(path)))


@pytest.mark.parametrize("name", ["../../../etc/passwd", "..", ".", "/etc/passwd", "a/../../b", "\x1b]52;c;aGk=\x07",
                                  "-rf", "con\n", "ünï", "\u202ename", "x" * 64, "a\\..\\b", "~root", "$(id)", "*"])
def test_a_name_never_leads_out_of_the_runs(name: str, home: Path) -> None:
    recipe = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", "name": name})
    run = create_run_directory(recipe.name)
    assert run.path.parent == runs_dir()
    assert run.path.resolve() == Path(os.path.realpath(home)) / "runs" / run.id
    assert set(run.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
