"""Whether a model folder holds a whole model that is safe to load: asked of its files' headers, nothing is loaded."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from workbench.engine.catalog.safetensors_file import StoredTensor, stored_tensors
from workbench.engine.errors import InputError
from workbench.engine.runs.store import read_json
from workbench.engine.text import one_line

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json",
               "sentencepiece.bpe.model")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Kernels that are a part of transformers or an installed package; any other name is looked up on the Hub and run.
_KERNELS = frozenset({None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"})
_KERNEL_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal",
                "experts_implementation", "_experts_implementation", "_experts_implementation_internal")
_SETTINGS = ("config.json", "tokenizer_config.json", "generation_config.json", "processor_config.json",
             "preprocessor_config.json")
_CODE_KEYS = ("auto_map", "custom_generate")
_FETCHING_KEYS = ("use_kernels", "kernel_config")
# transformers looks up any of its own names for it, a trainer's as well.
_TOKENIZER_CLASS = re.compile(r"\w+(Tokenizer|TokenizerFast|Backend)", re.ASCII)
# Others load packages that are none of ours, or kernels from the Hub.
_QUANTIZED = ("bitsandbytes", None)
# Files in the Hub's cache are named by their content: sha256 of large ones, git's sha1 of small ones.
_SHA256, _GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_HASHED_AT_ONCE = 256 << 20
"""Bytes that are hashed before a launch: sha256 goes through 330 MB a second here, and the user waits."""


class IncompleteModelError(InputError):
    """Files are missing, and those that are there may be good: fetching the rest would mend it."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What was found: files of weights, their tensors and bytes, and the bytes that were too many to be hashed."""

    files: tuple[Path, ...]
    tensors: int
    weight_bytes: int
    unhashed_bytes: int = 0

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(_numbers(tensor) for file in self.files for tensor in stored_tensors(file))


def check_model_files(folder: Path, label: str, weights: bool = True, tokenizer: bool = True) -> ModelFiles:
    """Check a model folder: no code of its own, a tokenizer, and all weights that its index names, whole.

    `label` is the model's name in sentences; `weights` and `tokenizer`: what the work needs of both.
    Raises InputError, which names the file. Bits that flipped inside a tensor are seen only where the Hub's cache names
    a file by its hash, and it is small.
    """
    refuse_own_code(folder, label)
    if tokenizer:
        _check_tokenizer(folder, label)
    if not weights:
        return ModelFiles((), 0, 0)
    files, tensors, size = [], 0, 0
    for path, names in _weight_files(folder, label):
        found = stored_tensors(path)
        if missing := names - {tensor.name for tensor in found}:
            raise InputError(f"{path} lacks {len(missing)} of the tensors that {INDEX} says it holds, {min(missing)} "
                             "among them.", "The files are of different downloads: fetch or save the model again.")
        files.append(path)
        tensors += len(found)
        size += sum(tensor.size for tensor in found)
    return ModelFiles(tuple(files), tensors, size, _check_hashes(folder, label))


def refuse_own_code(folder: Path, label: str) -> None:
    """Raise InputError for a folder whose settings name code that the model brings along or fetches."""
    for name in _SETTINGS:
        refuse_code_settings(read_json(folder / name), label, name)


def refuse_code_settings(config: Mapping[str, Any], label: str, file: str = "config.json") -> None:
    """Raise InputError for settings that name code to run: `auto_map`, or a kernel from the Hub, at any depth."""
    for key, value in _entries(config):
        if key in _CODE_KEYS and value:
            raise InputError(f"{label} brings its own Python code ({key} in {file}), which the workbench never "
                             "runs.", "Use a model of an architecture that transformers itself knows.")
        if key in _FETCHING_KEYS and value:
            raise InputError(f"{label} asks for kernels from the Hub ({key} in {file}), which would be fetched and "
                             "run.", f"Remove {key} from its {file}.")
        if key == "tokenizer_class" and value and not (isinstance(value, str) and _TOKENIZER_CLASS.fullmatch(value)):
            raise InputError(f"{label} names no tokenizer with tokenizer_class: {one_line(str(value), 60)} in {file}.",
                             f"Remove tokenizer_class from its {file}.")
        if key == "quant_method" and value not in _QUANTIZED:
            raise InputError(f"{label} is stored quantised by {one_line(str(value), 40)}, whose code is none of the "
                             "workbench's.", "Use the model as it was before: it is quantised here, by tuning: qlora.")
        if key in _KERNEL_KEYS:
            for kernel in value.values() if isinstance(value, Mapping) else [value]:
                if not (isinstance(kernel, str | None) and kernel in _KERNELS):
                    raise InputError(f"{label} asks for a kernel of its own ({key}: {one_line(str(kernel), 60)} in "
                                     f"{file}), which would be fetched and run.", f"Remove {key} from its {file}.")


def _entries(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if depth > 8:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key), inner
            yield from _entries(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner, depth + 1)


def _check_tokenizer(folder: Path, label: str) -> None:
    found = [folder / name for name in _TOKENIZERS if (folder / name).is_file()]
    if not found:
        raise IncompleteModelError(f"{label} has no tokenizer in {folder}.", f"One of {', '.join(_TOKENIZERS[:4])} "
                                   "must lie beside its config.json: fetch the model again.")
    if found[0].suffix == ".json":
        try:
            orjson.loads(found[0].read_bytes())
        except OSError as error:
            raise InputError(f"{found[0]} cannot be read: {error.strerror}.") from None
        except orjson.JSONDecodeError:
            raise InputError(f"{found[0]} is damaged: it is no JSON.", "Fetch or save the model again.") from None


def _weight_files(folder: Path, label: str) -> list[tuple[Path, set[str]]]:
    """The files that transformers would load, each with the tensors that its index says are in it."""
    if (folder / WEIGHTS).is_file():
        return [(folder / WEIGHTS, set())]
    if not (folder / INDEX).is_file():
        raise _without_weights(folder, label)
    try:
        weight_map: Any = orjson.loads((folder / INDEX).read_bytes())["weight_map"]
        pairs = [(str(tensor), str(file)) for tensor, file in weight_map.items()]
    except OSError as error:
        raise InputError(f"{folder / INDEX} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{folder / INDEX} is damaged.", "Fetch or save the model again.") from None
    shards: dict[str, set[str]] = {}
    for tensor, file in pairs:
        shards.setdefault(file, set()).add(tensor)
    for file in sorted(shards):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise InputError(f"{folder / INDEX} names {one_line(file, 60)!r}, which is no safetensors file beside it.",
                             "Fetch or save the model again.")
        if not (folder / file).is_file():
            missing = sum(not (folder / other).is_file() for other in shards)
            raise IncompleteModelError(f"{label} is incomplete: {missing} of its {len(shards)} weight files are "
                                       f"missing, {file} among them.", "Fetch the rest: hf download NAME.")
    return [(folder / file, shards[file]) for file in sorted(shards)]


def _without_weights(folder: Path, label: str) -> InputError:
    shards = sorted(folder.glob("*.safetensors"))
    if shards:
        return IncompleteModelError(f"{label} has {shards[0].name}, but neither {WEIGHTS} nor {INDEX}, which "
                                    "says what belongs together.", "Fetch or save the model again.")
    pickled = next((path for pattern in _PICKLES for path in sorted(folder.glob(pattern))), None)
    if pickled is not None:
        return InputError(f"{label} has no safetensors weights in {folder}: only {pickled.name}.", "Pickled weights "
                          "(.bin, .pt) can run code when loaded and are not read; convert them first.")
    return IncompleteModelError(f"{label} has no safetensors weights in {folder}.",
                                "Is the download complete? hf download NAME.")


def _check_hashes(folder: Path, label: str) -> int:
    """Compare what lies in the Hub's cache with its names, small files first; gives the bytes that were left out."""
    blobs = []
    for path in folder.iterdir():
        target = path.resolve()
        if path.is_symlink() and target.parent.name == "blobs" and target.is_file():
            blobs.append((target.stat().st_size, target.name, path))
    room, left_out = _HASHED_AT_ONCE, 0
    for size, name, path in sorted(blobs):
        if not (_SHA256.fullmatch(name) or _GIT_SHA1.fullmatch(name)):
            continue
        if size > room:
            left_out += size
            continue
        room -= size
        target = path.resolve()
        if _content_name(target, size, target.stat().st_mtime_ns) != name:
            raise InputError(f"{path.name} of {label} is damaged: its content is not what the Hub's cache says it is.",
                             f"Remove {target} and fetch it again: hf download NAME.")
    return left_out


@lru_cache(maxsize=4096)
def _content_name(path: Path, size: int, mtime_ns: int) -> str:
    """What the Hub's cache calls a file of this content. Remembered as long as its size and time of change stay."""
    digest = hashlib.sha256() if _SHA256.fullmatch(path.name) else hashlib.sha1(b"blob %d\0" % size,
                                                                               usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _numbers(tensor: StoredTensor) -> int:
    count = 1
    for length in tensor.shape:
        count *= length
    return count
