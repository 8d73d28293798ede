"""Recipes: strict reading, overrides, round trip."""

from pathlib import Path

import pytest

from workbench.engine.errors import InputError
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import (
    RecipeError,
    load_recipe,
    parse_recipe,
    recipe_to_yaml,
    save_recipe,
    update_yaml,
)

MINIMAL = "model: tiny-base\ndataset: glossary\n"


def test_model_and_dataset_are_enough() -> None:
    recipe = parse_recipe(MINIMAL)
    assert (recipe.tuning, recipe.objective, recipe.name) == ("lora", "sft", "tiny-base-lora-sft")
    assert recipe.learning_rate == 2e-4
    assert parse_recipe(MINIMAL + "tuning: full\n").learning_rate == 2e-5


@pytest.mark.parametrize(("text", "line", "words"), [
    (MINIMAL + "trainin: {}\n", 3, "did you mean training?"),
    (MINIMAL + "training:\n  learning_rat: 1\n", 4, "did you mean learning_rate?"),
    ("model: a\nmodel: b\ndataset: c\n", 2, 'duplicate key "model"'),
    ("model: &m a\ndataset: c\nname: *m\n", 1, "aliases and anchors"),
    ("model: !!python/object:os.system a\ndataset: c\n", 1, "tag"),
    ("model: 3\ndataset: c\n", 1, "model is 3: input should be a valid string"),
    (MINIMAL + "training:\n  packing: 1\n", 4, "input should be a valid boolean"),
    (MINIMAL + "training:\n  max_length: 12.5\n", 4, "max_length is 12.5"),
    (MINIMAL + "training:\n  per_device_train_batch_size: 0\n", 4, "greater than or equal to 1"),
    ("model: a\ndataset: {pth: x}\n", 2, "did you mean path?"),
    (MINIMAL + "objective: dpa\n", 3, "'dpo'"),
    ("model: [a\n", 2, "not valid YAML"),
    ("model: a\ndataset:\n  - path: x\n    wieght: 2\n  - y\n", 4, "wieght is not a setting; did you mean weight?"),
    ("model: a\ndataset:\n  path:\n    - path: x\n      weight: y\n", 5, "path.0.weight is 'y': input should be"),
    ("model: a\ndataset: [{weight: 2}]\n", 2, "dataset.path.0.path is missing"),
    ("model: a\ndataset: [3]\n", 2, "dataset.path.0 is 3: input should be a section"),
    ("model: a\ndataset: []\n", 2, "dataset.path: it names no data"),
    (MINIMAL + "data: {allow: [dupliates]}\n", 3, "data.allow.0 is 'dupliates'"),
    (MINIMAL + "tuning: qlor\n", 3, "'full', 'lora' or 'qlora'"),
])
def test_bad_recipes_are_refused_with_file_and_line(text: str, line: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert words in caught.value.message
    assert len(caught.value.problems) == (2 if "pth" in text else 1)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "- a\n", "just words", "a: \x00"])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        parse_recipe(text)


def test_alias_bomb_is_refused_at_once() -> None:
    lines = ["a: &a [x, x]"] + [f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]" for i in range(20)]
    with pytest.raises(RecipeError, match="aliases"):
        parse_recipe("\n".join(lines))


def test_overrides_are_dotted_and_typed() -> None:
    recipe = parse_recipe(MINIMAL, overrides=["tuning=qlora", "training.learning_rate=1e-3", "dataset.max_rows=5",
                                              "samples.prompts=[a, b]", "training.save_steps=null"])
    assert (recipe.tuning, recipe.learning_rate, recipe.dataset.max_rows) == ("qlora", 1e-3, 5)
    assert recipe.dataset.path == "glossary"
    assert recipe.samples.prompts == ("a", "b")
    assert recipe.training.save_steps is None


@pytest.mark.parametrize(("override", "words"), [
    ("tuning", "expected key=value"), ("training.lerning_rate=1", "did you mean learning_rate"),
    ("model.x=1", "model is a single value"), ("training.max_steps=abc", "--set training.max_steps is 'abc'"),
])
def test_bad_overrides_say_so(override: str, words: str) -> None:
    with pytest.raises(InputError, match="--set") as caught:
        parse_recipe(MINIMAL, overrides=[override])
    assert words in caught.value.message


def test_json_is_yaml() -> None:
    assert parse_recipe('{"model": "a", "dataset": {"path": "b"}}').dataset.path == "b"


def test_update_keeps_comments_order_and_quotes() -> None:
    text = ('# mine\ndataset: glossary   # the data\nmodel: tiny-base\ntraining:\n  learning_rate: 2e-4  # peak\n'
            'samples:\n  prompts: ["Who?"]\n')
    recipe = parse_recipe(text)
    changed = recipe.model_copy(update={"training": recipe.training.model_copy(update={"learning_rate": 1e-3})})
    updated = update_yaml(text, changed)
    assert "# mine" in updated
    assert "# the data" in updated
    assert "# peak" in updated
    assert '["Who?"]' in updated
    assert updated.index("dataset") < updated.index("model")
    assert parse_recipe(updated) == changed


@pytest.mark.parametrize("full", [True, False])
def test_what_is_written_reads_back_the_same(full: bool, tmp_path: Path) -> None:
    recipe = parse_recipe(MINIMAL, overrides=["lora.target_modules=[q_proj, v_proj]", "training.max_steps=7"])
    assert parse_recipe(recipe_to_yaml(recipe, full)) == recipe
    save_recipe(tmp_path / "r.yaml", recipe)
    assert load_recipe(tmp_path / "r.yaml") == recipe


def test_every_setting_is_explained() -> None:
    def unexplained(model: type, prefix: str = "") -> list[str]:
        found = []
        for name, info in model.model_fields.items():  # type: ignore[attr-defined]
            if hasattr(info.annotation, "model_fields"):
                found += unexplained(info.annotation, f"{prefix}{name}.")
            elif not info.description:
                found.append(prefix + name)
        return found

    assert unexplained(Recipe) == []


def test_recipes_with_mappings_in_them_are_hashable() -> None:
    text = MINIMAL + "stages: [{objective: sft}]\n"
    assert hash(parse_recipe(text)) == hash(parse_recipe(text))
    assert parse_recipe(text) in {parse_recipe(text)}


def test_a_mixture_can_be_set_and_kept() -> None:
    recipe = parse_recipe(MINIMAL, overrides=["dataset.path=[a, {path: b, weight: 2}]", "dataset.max_rows=3"])
    assert [(part.path, part.weight, part.split) for part in recipe.dataset.parts] == [
        ("a", None, "train"), ("b", 2.0, "train")]
    text = "model: tiny-base\ndataset: [a, b]  # both\n"
    kept = parse_recipe(text)
    changed = kept.model_copy(update={"dataset": kept.dataset.model_copy(update={"max_rows": 3})})
    assert update_yaml(text, changed).count("# both") == 1
    assert parse_recipe(update_yaml(text, changed)) == changed
    assert parse_recipe(update_yaml(MINIMAL, changed)).dataset == changed.dataset


def test_rows_to_evaluate_on_are_read_like_the_others() -> None:
    recipe = parse_recipe("model: a\ndataset: {path: b, eval_split: test, columns: {prompt: q}, format: prompts}\n")
    (part,) = recipe.dataset.eval_parts
    assert (part.path, part.split, part.columns, part.format) == ("b", "test", {"prompt": "q"}, "prompts")
    apart = parse_recipe("model: a\ndataset: {path: b, eval_path: c, format: text}\n").dataset.eval_parts
    assert [(part.path, part.split, part.format) for part in apart] == [("c", "train", "text")]
    assert parse_recipe("model: a\ndataset: b\n").dataset.eval_parts == ()
