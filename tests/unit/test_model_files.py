"""Model folders that are cut, damaged, incomplete or hostile: refused by the name of the file, nothing loaded."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from workbench.engine.catalog.completeness import IncompleteModelError, check_model_files, refuse_code_settings
from workbench.engine.catalog.safetensors_file import stored_tensors
from workbench.engine.errors import InputError
from workbench.engine.paths import assets_dir

TINY = assets_dir() / "tiny_base"


def write_safetensors(path: Path, tensors: dict[str, int]) -> None:
    """A file of float32 vectors: name → length."""
    header, start = {}, 0
    for name, length in tensors.items():
        header[name] = {"dtype": "F32", "shape": [length], "data_offsets": [start, start + 4 * length]}
        start += 4 * length
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(start))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The built-in model, as a folder that may be spoilt."""
    return Path(shutil.copytree(TINY, tmp_path / "model"))


@pytest.fixture
def sharded(model: Path) -> Path:
    """The same in two files with an index."""
    (model / "model.safetensors").unlink()
    names = {"model-00001-of-00002.safetensors": {"a": 3, "b": 5}, "model-00002-of-00002.safetensors": {"c": 2}}
    for file, tensors in names.items():
        write_safetensors(model / file, tensors)
    weight_map = {tensor: file for file, tensors in names.items() for tensor in tensors}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return model


def test_whole_models_are_counted(model: Path) -> None:
    found = check_model_files(model, "tiny")
    assert (len(found.files), found.tensors, found.parameters) == (1, 38, 3_737_856)
    assert found.weight_bytes == 2 * 3_737_856


def test_shards_are_counted_together(sharded: Path) -> None:
    found = check_model_files(sharded, "tiny")
    assert (len(found.files), found.tensors, found.weight_bytes, found.parameters) == (2, 3, 40, 10)


def test_a_cut_file_is_refused_wherever_it_is_cut(model: Path) -> None:
    path = model / "model.safetensors"
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [0, 1, 7, 8, 9, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1]
    for place in places:
        path.write_bytes(whole[:place])
        with pytest.raises(InputError, match=r"model\.safetensors") as raised:
            check_model_files(model, "tiny")
        assert "Fetch or save the file again" in str(raised.value.hint)
    path.write_bytes(whole + b"x")
    with pytest.raises(InputError, match="1 bytes follow the last tensor"):
        check_model_files(model, "tiny")
    path.write_bytes(whole)
    check_model_files(model, "tiny")


def test_no_flipped_bit_of_a_header_makes_another_model(tmp_path: Path) -> None:
    """Either the file is refused, or its tensors are where and what they were, but for a name or a note."""
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"layers.0.w": 12, "layers.1.w": 40, "norm": 7})
    whole, before = path.read_bytes(), [(t.dtype, t.shape, t.start, t.size) for t in stored_tensors(path)]
    bits, refused = 8 * (8 + int.from_bytes(whole[:8], "little")), []
    for bit in range(bits):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = stored_tensors(path)
        except InputError as error:
            refused.append(error.message)
        else:
            assert [(t.dtype, t.shape, t.start, t.size) for t in found] == before, bit
    assert len(refused) > bits / 2
    assert all("model.safetensors" in message for message in refused)


@pytest.mark.parametrize(("spoil", "kind", "words"), [
    (lambda folder: (folder / "model-00002-of-00002.safetensors").unlink(), IncompleteModelError,
     "1 of its 2 weight files are missing, model-00002-of-00002.safetensors among them"),
    (lambda folder: (folder / "model.safetensors.index.json").unlink(), IncompleteModelError,
     "has model-00001-of-00002.safetensors, but neither"),
    (lambda folder: (folder / "model.safetensors.index.json").write_text("{"), InputError, "index.json is damaged"),
    (lambda folder: write_safetensors(folder / "model-00001-of-00002.safetensors", {"a": 3}), InputError,
     "lacks 1 of the tensors that .* says it holds, b among them"),
    (lambda folder: (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../../x.safetensors"}})), InputError, "names '../../x.safetensors', which"),
    (lambda folder: (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "pytorch_model.bin"}})), InputError, r"names 'pytorch_model\.bin', which"),
    (lambda folder: (folder / "tokenizer.json").unlink(), IncompleteModelError, "has no tokenizer"),
    (lambda folder: (folder / "tokenizer.json").write_text("{"), InputError, r"tokenizer\.json is damaged"),
])
def test_incomplete_and_mixed_downloads_are_named(sharded: Path, spoil: Any, kind: type[InputError],
                                                  words: str) -> None:
    spoil(sharded)
    with pytest.raises(kind, match=words):
        check_model_files(sharded, "tiny")


def test_pickled_weights_are_never_read(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"only pytorch_model\.bin") as raised:
        check_model_files(model, "tiny")
    assert "can run code" in str(raised.value.hint)


@pytest.mark.parametrize("config", [
    {"auto_map": {"AutoConfig": "evil.Config"}},
    {"text_config": {"auto_map": {"AutoModel": "evil.Model"}}},
    {"_attn_implementation_internal": "evil/kernel"},
    {"attn_implementation": {"text_config": "evil/kernel"}},
    {"text_config": {"_attn_implementation": "evil/kernel:attention"}},
    {"_experts_implementation": ["x"]},
])
def test_settings_that_name_code_are_refused(config: dict[str, Any], model: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        refuse_code_settings(config, "evil")
    for name in ("config.json", "tokenizer_config.json"):
        saved = (model / name).read_text()
        (model / name).write_text(json.dumps({**json.loads(saved), **config}))
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            check_model_files(model, "evil", weights=False)
        (model / name).write_text(saved)


def test_kernels_that_transformers_has_are_no_foreign_code() -> None:
    refuse_code_settings({"_attn_implementation": "sdpa", "attn_implementation": None, "auto_map": {},
                          "text_config": {"_attn_implementation": "eager"}}, "good")


def test_a_damaged_blob_of_the_hubs_cache_is_named(tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for file in TINY.iterdir():
        raw = file.read_bytes()
        name = hashlib.sha256(raw).hexdigest() if file.suffix == ".safetensors" else \
            hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()
        (repository / "blobs" / name).write_bytes(raw)
        (snapshot / file.name).symlink_to(Path("../../blobs") / name)
    assert check_model_files(snapshot, "owner/name").unhashed_bytes == 0
    for name in ("model.safetensors", "tokenizer.json"):
        blob = (snapshot / name).resolve()
        raw = blob.read_bytes()
        blob.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
        with pytest.raises(InputError, match=f"{name} of owner/name is damaged|{name} is damaged"):
            check_model_files(snapshot, "owner/name")
        blob.write_bytes(raw)
