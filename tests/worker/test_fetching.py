"""Models that are not on this disk: fetched whole from a Hub on this machine, or refused in a sentence at once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCommand
from tests.local_hub import local_hub
from workbench.engine.paths import assets_dir

FETCH = """\
import json, os, sys
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.worker.fetching import model_folder
def fetch(name, weights):
    try:
        return ["ok", sorted(os.listdir(model_folder(resolve_model(name), weights)))]
    except InputError as error:
        return [type(error).__name__, error.message, error.hint]
print(json.dumps([fetch(*question) for question in json.loads(sys.argv[1])]))
"""


def fetch(*questions: tuple[str, bool], **environment: str) -> list[Any]:
    result = subprocess.run([sys.executable, "-c", FETCH, json.dumps(questions)], capture_output=True, text=True,
                            timeout=120, env={**os.environ, **environment})
    assert result.returncode == 0, result.stderr
    answers: list[Any] = json.loads(result.stdout)
    return answers


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The built-in model as somebody published it, with a pickle beside it."""
    folder = Path(shutil.copytree(assets_dir() / "tiny_base", tmp_path / "published"))
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    return folder


def test_a_model_is_fetched_in_parts_checked_and_then_needs_no_network(published: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with local_hub(published) as (endpoint, hub):
        tokenizer, whole = fetch(("owner/served", False), ("owner/served", True), HF_ENDPOINT=endpoint)
        assert "tokenizer.json" in tokenizer[1]
        assert "model.safetensors" not in tokenizer[1]
        assert "model.safetensors" in whole[1]
        assert not any("pytorch_model.bin" in path for _, path, _ in hub.asked)
        asked = len(hub.asked)
        assert fetch(("owner/served", True), HF_ENDPOINT=endpoint)[0][0] == "ok"
        assert len(hub.asked) == asked
    assert fetch(("owner/served", True), HF_HUB_OFFLINE="1")[0][0] == "ok"


def test_a_published_model_that_is_cut_is_refused_by_name(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    whole = (published / "model.safetensors").read_bytes()
    (published / "model.safetensors").write_bytes(whole[:-1000])
    with local_hub(published) as (endpoint, _):
        [(kind, message, hint)] = fetch(("owner/served", True), HF_ENDPOINT=endpoint)
    assert kind == "InputError"
    assert "model.safetensors is cut: it ends inside" in message
    assert "Fetch or save the file again" in hint


def test_what_the_hub_does_not_give_is_asked_for_once(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with local_hub(published) as (endpoint, hub):
        gated, unknown = fetch(("owner/gated", True), ("owner/unknown", False), HF_ENDPOINT=endpoint)
        assert len(hub.asked) == 2
    assert (gated[0], "is gated" in gated[1], "hf auth login" in gated[2]) == ("HubError", True, True)
    assert (unknown[0], "no model called owner/unknown" in unknown[1]) == ("HubError", True)
    [(kind, message, hint)] = fetch(("owner/served", True), HF_HUB_OFFLINE="1")
    assert kind == "HubError"
    assert "HF_HUB_OFFLINE is set" in message
    assert "hf download owner/served" in hint


@pytest.mark.slow
def test_a_run_of_a_gated_model_ends_with_the_same_sentence(published: Path, workbench: RunCommand, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: owner/gated\ndataset: glossary\n")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with local_hub(published) as (endpoint, hub):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        refused = workbench("train", str(recipe))
        assert (refused.returncode, "owner/gated is gated" in refused.stderr) == (2, True)
        result = workbench("train", str(recipe), "--force", "--json")
        assert result.returncode == 1
        document = json.loads(result.stdout)
        assert len(hub.asked) == 3  # two preflights, and the worker
    assert (document["state"], document["cause"]) == ("failed", "hub")
    assert document["explanation"] == "owner/gated is gated, and this machine may not read it."
    assert "hf auth login" in document["suggestion"]
