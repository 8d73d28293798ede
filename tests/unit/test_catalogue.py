"""The catalogue's file: sorted, a line a model, facts that the estimate reads, exact counts."""

import json
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import license_of, list_models
from workbench.engine.memory.estimate import MemoryCase, estimate_memory
from workbench.engine.paths import assets_dir

TEXT = (assets_dir() / "catalogue.json").read_text(encoding="utf-8")
ENTRIES: dict[str, dict[str, Any]] = orjson.loads(TEXT)


def test_one_line_a_model_sorted_by_name() -> None:
    lines = TEXT.splitlines()[1:-1]
    assert len(lines) == len(ENTRIES) >= 70
    assert list(ENTRIES) == sorted(ENTRIES, key=str.lower)


def test_from_135m_to_more_than_400b_dense_and_mixtures() -> None:
    counts = [entry["parameters"] for entry in ENTRIES.values()]
    assert min(counts) < 135_000_000
    assert max(counts) > 400_000_000_000
    assert len({entry["config"]["model_type"] for entry in ENTRIES.values()}) >= 25


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_has_its_licence_and_the_count_of_its_config(name: str) -> None:
    assert license_of(name)
    assert ENTRIES[name]["parameters"] == architecture_from_config(ENTRIES[name]["config"]).parameters


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_can_be_planned(name: str) -> None:
    architecture = architecture_from_config(ENTRIES[name]["config"])
    for tuning in ("full", "lora", "qlora"):
        assert estimate_memory(architecture, MemoryCase(tuning=tuning)).peak_bytes > 0


def test_models_json_lists_them_with_their_counts() -> None:
    result = CliRunner().invoke(app, ["models", "--json"])
    listed = {row["name"]: row for row in json.loads(result.stdout)}
    assert listed["openai/gpt-oss-20b"]["parameters"] == 20_914_757_184
    assert len([row for row in listed.values() if row["source"] == "catalogue"]) == len(ENTRIES) == len(list_models()) - 1
