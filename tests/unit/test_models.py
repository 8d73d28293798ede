"""Where a model is found: built-in, folder, local Hugging Face cache, catalogue; and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from workbench.engine.catalog import models
from workbench.engine.catalog.models import hub_cache_dir, license_of, list_models, nearest_models, resolve_model
from workbench.engine.errors import InputError

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
}


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return cache


def write_model(folder: Path, config: object = CONFIG, weights: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if weights:
        (folder / "model.safetensors").write_bytes(b"\0" * weights)
    return folder


def write_cached(cache: Path, name: str, revision: str, main: str | None = None, **changes: object) -> Path:
    folder = cache / ("models--" + name.replace("/", "--"))
    if main is not None:
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(main)
    return write_model(folder / "snapshots" / revision, CONFIG | changes, weights=10)


def test_a_folder_is_found_beside_the_recipe(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine")
    source = resolve_model("mine", base_dir=tmp_path)
    assert (source.kind, source.path, source.config) == ("folder", folder, CONFIG)
    assert resolve_model(str(folder)).kind == "folder"


def test_a_folder_goes_before_cache_and_cache_before_catalogue(tmp_path: Path, hub_cache: Path) -> None:
    name = "Qwen/Qwen3-0.6B"
    assert resolve_model(name, tmp_path).kind == "catalogue"
    assert resolve_model(name, tmp_path).path is None
    write_cached(hub_cache, name, "abc")
    assert resolve_model(name, tmp_path).kind == "cache"
    write_model(tmp_path / name)
    assert resolve_model(name, tmp_path).kind == "folder"


def test_refs_main_names_the_snapshot(hub_cache: Path) -> None:
    write_cached(hub_cache, "a/b", "new", vocab_size=1)
    main = write_cached(hub_cache, "a/b", "old", main="old\n", vocab_size=2)
    assert resolve_model("a/b").path == main
    assert resolve_model("a/b").config["vocab_size"] == 2


def test_a_stale_or_hostile_ref_falls_back_to_a_snapshot(hub_cache: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "secret", {"vocab_size": 666})
    snapshot = write_cached(hub_cache, "a/b", "abc", main="../../../secret")
    assert resolve_model("a/b").path == snapshot
    (hub_cache / "models--a--b" / "refs" / "main").write_text("gone")
    assert resolve_model("a/b").path == snapshot


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "a--b", "a/b/c", "..", "", "x\0y", "~nobody-here/x"])
def test_a_name_is_never_joined_to_the_cache_unchecked(name: str, tmp_path: Path, hub_cache: Path) -> None:
    write_model(hub_cache / "models--a--b" / "snapshots" / "abc")
    with pytest.raises(InputError):
        resolve_model(name, base_dir=tmp_path / "elsewhere")


def test_an_unknown_bare_name_hints_at_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        resolve_model("qwen3-0.6b")
    assert "qwen3-0.6b" in caught.value.message
    assert caught.value.hint is not None
    assert "Qwen/Qwen3-0.6B" in caught.value.hint


@pytest.mark.parametrize("typed", ["Qwen/Qwen3-0.6b", "Qwen/Qwen3-06B"])
def test_an_unknown_hub_id_is_left_to_the_hub_and_its_neighbours_are_known(typed: str) -> None:
    source = resolve_model(typed)
    assert (source.kind, source.path, source.config) == ("hub", None, {})
    assert "Qwen/Qwen3-0.6B" in nearest_models(typed)


def test_a_broken_folder_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "broken", [1, 2])
    with pytest.raises(InputError, match="no JSON object"):
        resolve_model(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        resolve_model(str(folder))


def test_listing_skips_what_is_broken_and_measures_weights(hub_cache: Path) -> None:
    write_cached(hub_cache, "org/good", "abc")
    write_cached(hub_cache, "org/odd", "abc", architectures=["NewNet"])
    (hub_cache / "models--org--empty").mkdir()
    bad = write_cached(hub_cache, "org/bad", "abc")
    (bad / "config.json").write_text("not json")
    found = {info.name: info for info in list_models()}
    assert found["org/good"].size_bytes == 10
    assert found["org/good"].parameters == 2 * 100 * 32 + 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32)
    assert found["org/odd"].parameters is None
    assert found["org/odd"].source == "cache"
    assert not {"org/empty", "org/bad"} & set(found)
    assert found["Qwen/Qwen3-8B"].source == "catalogue"


def test_a_cached_model_is_listed_once(hub_cache: Path) -> None:
    write_cached(hub_cache, "Qwen/Qwen3-8B", "abc")
    assert [info.source for info in list_models() if info.name == "Qwen/Qwen3-8B"] == ["cache"]


def test_the_builtin_model_is_the_assets_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(models.assets_dir() / "catalogue.json", tmp_path)
    monkeypatch.setattr(models, "assets_dir", lambda: tmp_path)
    assert "tiny-base" not in {info.name for info in list_models()}
    folder = write_model(tmp_path / "tiny_base", weights=7)
    assert resolve_model("tiny-base", base_dir=tmp_path).path == folder
    first = list_models()[0]
    assert (first.name, first.source, first.size_bytes) == ("tiny-base", "builtin", 7)


def test_the_cache_follows_hugging_face_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", "/data/hf")
    assert hub_cache_dir() == Path("/data/hf/hub")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/data/cache")
    assert hub_cache_dir() == Path("/data/cache/huggingface/hub")


def test_the_catalogue_states_published_sizes_and_licences() -> None:
    entries = json.loads((models.assets_dir() / "catalogue.json").read_text())
    assert len(entries) >= 25
    listed = {info.name: info.parameters for info in list_models()}
    assert {name: entry["parameters"] for name, entry in entries.items()} == {name: listed[name] for name in entries}
    assert license_of("Qwen/Qwen3-8B") == "Apache-2.0"
    assert license_of("nobody/nothing") is None
