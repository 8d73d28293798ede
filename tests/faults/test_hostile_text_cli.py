"""Text of data, models, logs and files on the command line: nothing that a terminal obeys is printed."""

import json
from pathlib import Path

import pytest

from tests.conftest import RunCommand
from tests.hostile import EVIL, MARKUP, RECIPE, control_bytes, hostile_run
from workbench.engine.recipe_file import recipe_to_yaml

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_is_told_as_text(ended: bool, workbench: RunCommand, home: Path) -> None:
    run = hostile_run(home, ended=ended)
    commands = [["watch", run.id], ["show", run.id]]
    if ended:
        commands += [["runs"], ["logs", run.id], ["show", run.id, "--json"], ["resume", run.id], ["stop", run.id]]
    for command in commands:
        result = workbench(*command)
        assert control_bytes(result.stdout + result.stderr) == [], command
        assert "Traceback (most recent" not in result.stderr, command
    assert MARKUP in result.stdout + result.stderr or ended


@pytest.mark.parametrize("command", [["plan"], ["plan", "--json"], ["data"], ["train"]])
def test_a_recipe_is_told_as_text(command: list[str], workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / f"r{EVIL[:30]}.yaml".replace("/", "")
    recipe.write_text(recipe_to_yaml(RECIPE))
    result = workbench(command[0], str(recipe), *command[1:])
    assert result.returncode in (0, 2)
    assert control_bytes(result.stdout + result.stderr) == []
    assert "Traceback" not in result.stderr


def test_rows_and_their_problems_are_told_as_text(workbench: RunCommand, tmp_path: Path) -> None:
    rows = [{"prompt": EVIL, "completion": EVIL}, {"prompt": EVIL}, {EVIL: EVIL}, EVIL]
    path = tmp_path / f"{EVIL[:20]}rows.jsonl".replace("/", "")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + EVIL + "\n")
    result = workbench("data", str(path))
    assert control_bytes(result.stdout + result.stderr) == []
    assert "Traceback" not in result.stderr
    for command in ("show", "explain"):
        result = workbench(command, EVIL)
        assert result.returncode == 2, command
        assert control_bytes(result.stdout + result.stderr) == [], command
