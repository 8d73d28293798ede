"""A bounded look into a model's weight files: whole rows of one matrix, read without torch.

safetensors' own reader gives arrays of numpy, which has no bfloat16.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from workbench.engine.catalog.safetensors_file import stored_tensors
from workbench.engine.errors import InputError

_FORMATS = {"F16": "e", "F32": "f", "F64": "d"}
_WIDTHS = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """Where a matrix [rows, columns] lies: `start` is the position of its first byte in `file`."""

    file: Path
    name: str
    dtype: str
    rows: int
    columns: int
    start: int


@dataclass(frozen=True, slots=True)
class MatrixSample:
    """Some whole rows of a stored matrix, evenly spread."""

    matrix: StoredMatrix
    rows: tuple[tuple[float, ...], ...]


def middle_matrix(folder: Path) -> StoredMatrix:
    """The largest matrix of the block in the middle of a model's depth: typical of its linear layers.

    Raises InputError when the folder has no readable safetensors file or no such matrix in 16 or more bits.
    """
    found = [matrix for file in _weight_files(folder) for matrix in _matrices(file)]
    by_depth: dict[int, list[StoredMatrix]] = {}
    for matrix in found:
        depth = next((int(part) for part in matrix.name.split(".") if part.isdigit()), None)
        if depth is not None:
            by_depth.setdefault(depth, []).append(matrix)
    if not by_depth:
        raise InputError(f"{folder} holds no safetensors matrix in 16 or 32 bits to look at.")
    depths = sorted(by_depth)
    return max(by_depth[depths[len(depths) // 2]], key=lambda matrix: (matrix.rows * matrix.columns, matrix.name))


def read_sample(matrix: StoredMatrix, numbers: int = 65_536) -> MatrixSample:
    """About `numbers` numbers of a matrix: whole rows, evenly spread, at least one. Raises InputError."""
    wanted = min(max(numbers // matrix.columns, 1), matrix.rows)
    width = _WIDTHS[matrix.dtype] * matrix.columns
    rows = []
    try:
        with matrix.file.open("rb") as file:
            for index in range(wanted):
                file.seek(matrix.start + index * matrix.rows // wanted * width)
                raw = file.read(width)
                if len(raw) < width:
                    raise InputError(f"{matrix.file} ends inside {matrix.name}.", "Is the download complete?")
                rows.append(_decode(raw, matrix.dtype))
    except OSError as error:
        raise InputError(f"{matrix.file} cannot be read: {error}.") from error
    return MatrixSample(matrix, tuple(rows))


def _decode(raw: bytes, dtype: str) -> tuple[float, ...]:
    if dtype != "BF16":
        return struct.unpack(f"<{len(raw) // _WIDTHS[dtype]}{_FORMATS[dtype]}", raw)
    # bfloat16 is the upper half of a float32.
    padded = bytearray(2 * len(raw))
    padded[2::4], padded[3::4] = raw[0::2], raw[1::2]
    return struct.unpack(f"<{len(raw) // 2}f", padded)


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model; of a sharded one those that its index names."""
    index = folder / "model.safetensors.index.json"
    try:
        names = set(orjson.loads(index.read_bytes())["weight_map"].values())
        return sorted(folder / name for name in names if Path(name).name == name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return sorted(folder.glob("*.safetensors"))


def _matrices(path: Path) -> Iterator[StoredMatrix]:
    for tensor in stored_tensors(path):
        if tensor.dtype in _WIDTHS and len(tensor.shape) == 2 and tensor.size:
            yield StoredMatrix(path, tensor.name, tensor.dtype, *tensor.shape, tensor.start)
