"""A recipe's chat template: a name, or a file that means the same in any folder."""

from pathlib import Path

import pytest

from workbench.engine.data.chat_template import resolve_chat_template
from workbench.engine.errors import InputError
from workbench.engine.recipe import DatasetSettings, Recipe
from workbench.engine.recipe_data import DataSettings
from workbench.engine.runs.launcher import resolve_recipe


def test_a_file_is_found_from_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("x")
    recipe = Recipe(model="tiny-base", dataset=DatasetSettings(path="glossary"),
                    data=DataSettings(chat_template="mine.jinja"))
    assert resolve_recipe(recipe, tmp_path).data.chat_template == str(tmp_path / "mine.jinja")
    assert resolve_chat_template("llama-3", tmp_path) == "llama-3"


def test_what_is_neither_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such template, and no such file") as raised:
        resolve_chat_template("chatlm", tmp_path)
    assert raised.value.hint == "Did you mean chatml?"
