"""The header of a safetensors file: what tensors it holds and where, checked against the file without reading them.

A file is 8 bytes (the header's length, little-endian), a JSON header {name: {dtype, shape, data_offsets}}, and the raw
numbers, without gaps (github.com/huggingface/safetensors).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from workbench.engine.errors import InputError

# The limit of the safetensors library; a header beyond it is a broken or hostile file.
_LARGEST_HEADER = 100_000_000
# Bits a number, by safetensors 0.8's names (its Dtype).
_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_AGAIN = "Is the download complete? Fetch or save the file again."


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file: `start` is the position of its first byte, `size` its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def stored_tensors(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors of a file, in the order of their bytes. Raises InputError, which names the file and what is wrong.

    What a file said is remembered as long as its size and time of change stay.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    return _read(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1024)
def _read(path: Path, size: int, mtime_ns: int) -> tuple[StoredTensor, ...]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 0 < length <= min(_LARGEST_HEADER, size - 8):
                raise InputError(f"{path} is no safetensors file, or is cut: its header would have {length:,} bytes, "
                                 f"the file has {size:,}.", _AGAIN)
            header: Any = orjson.loads(file.read(length))
        tensors = sorted(_tensors(header, 8 + length), key=lambda tensor: (tensor.start, tensor.size))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"The header of {path} is damaged.", _AGAIN) from None
    end = 8 + length
    for tensor in tensors:
        if tensor.start != end:
            raise InputError(f"The header of {path} is damaged: {tensor.name} does not begin where the one before it "
                             "ends.", _AGAIN)
        end += tensor.size
    if size < end:
        inside = next((tensor.name for tensor in tensors if tensor.start + tensor.size > size), "its header")
        raise InputError(f"{path} is cut: it ends inside {inside}, {end - size:,} bytes too early.", _AGAIN)
    if size > end:
        raise InputError(f"{path} is damaged: {size - end:,} bytes follow the last tensor of its header.", _AGAIN)
    return tuple(tensors)


def _tensors(header: dict[str, Any], base: int) -> Iterator[StoredTensor]:
    """Raises ValueError, KeyError, TypeError or AttributeError for a header that is not one."""
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        whole = all(isinstance(number, int) and number >= 0 for number in (*shape, begin, end))
        if not whole or end - begin != math.ceil(math.prod(shape) * _BITS[entry["dtype"]] / 8):
            raise ValueError(name)
        yield StoredTensor(name, entry["dtype"], shape, base + begin, end - begin)
