"""The layers hold: checked in the source by import-linter, and in running processes by what they loaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "bitsandbytes", "accelerate")


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('\\n'.join(name for name in sys.modules if '.' not in name))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(result.stdout.split())


def test_import_contracts() -> None:
    result = subprocess.run(["lint-imports"], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("module", [
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for path in sorted((ROOT / "workbench" / "engine").rglob("*.py")) if path.name != "__init__.py"])
def test_no_engine_module_names_a_heavy_library(module: str) -> None:
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    assert not {name.split(".")[0] for name in names} & {*HEAVY, "textual"}


def test_the_application_never_loads_torch() -> None:
    assert not loaded_by("import workbench.tui.app") & set(HEAVY)


def test_commands_load_neither_torch_nor_textual() -> None:
    code = ("import sys\nfrom workbench.cli import app\n"
            "for words in (['runs'], ['models'], ['plan', 'recipes/demo.yaml']):\n"
            "    try:\n        app(words)\n    except SystemExit:\n        pass\n")
    assert not loaded_by(code) & {*HEAVY, "textual"}


def test_the_supervisor_loads_little() -> None:
    assert not loaded_by("import workbench.engine.runs.supervisor") & {*HEAVY, "textual", "pydantic", "typer"}


def test_files_and_functions_stay_small() -> None:
    offenders = []
    for path in (ROOT / "workbench").rglob("*.py"):
        text = path.read_text()
        if text.count("\n") > 300:
            offenders.append(f"{path.name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 55:
                    offenders.append(f"{path.name}: {node.name} has {length} lines")
    assert offenders == []
