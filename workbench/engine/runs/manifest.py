"""Directories that are complete or absent: written aside, listed in a manifest, put in place at once, verified before
use."""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import xxhash

from workbench.engine.atomic import fsync_path, write_json
from workbench.engine.runs.store import read_json

MANIFEST = "manifest.json"
_PARTIAL, _OLD = ".partial-", ".old-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def write_complete(directory: Path, fill: Callable[[Path], None], facts: dict[str, Any]) -> None:
    """Make `directory` hold what `fill` writes, all of it or nothing, even across a kill or a power cut: until the new
    one is in place, an older one of the same name stays.

    `facts` (step, recipe, versions…) go into the manifest beside every file's size and xxh3-128. Raises what `fill`
    raises, and OSError; then nothing is left of the attempt.
    """
    partial = directory.parent / f"{_PARTIAL}{directory.name}"
    new_parent = not directory.parent.is_dir()
    _clear(directory)
    try:
        partial.mkdir(parents=True, mode=0o700)
        fill(partial)
        files = {}
        for path in sorted(partial.rglob("*")):
            if path.is_file():
                files[str(path.relative_to(partial))] = {"size": path.stat().st_size, "xxh3_128": _digest(path)}
            fsync_path(path)
        write_json(partial / MANIFEST, {**facts, "files": files})
        _put_in_place(partial, directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    fsync_path(directory.parent)
    if new_parent:
        fsync_path(directory.parent.parent)


def remove_complete(directory: Path) -> None:
    """Delete such a directory: a kill leaves all of it, or nothing under its name."""
    old = directory.parent / f"{_OLD}{directory.name}"
    shutil.rmtree(old, ignore_errors=True)
    os.rename(directory, old)
    shutil.rmtree(old, ignore_errors=True)


def clear_leftovers(parent: Path) -> None:
    """Clear what a killed writer left behind. What it was about to replace, and could not, gets its name back."""
    for leftover in [*parent.glob(f"{_OLD}*"), *parent.glob(f"{_PARTIAL}*")]:
        _clear(parent / leftover.name.removeprefix(_OLD).removeprefix(_PARTIAL))


def _clear(directory: Path) -> None:
    partial, old = (directory.parent / f"{prefix}{directory.name}" for prefix in (_PARTIAL, _OLD))
    if old.exists() and partial.exists() and not directory.exists():
        with suppress(OSError):
            os.rename(old, directory)
    for leftover in (old, partial):
        shutil.rmtree(leftover, ignore_errors=True)


def _put_in_place(partial: Path, directory: Path) -> None:
    """Give the new directory its name; the old one of that name is deleted after it."""
    if not directory.exists():
        os.rename(partial, directory)
        return
    old = directory.parent / f"{_OLD}{directory.name}"
    if _exchange(partial, directory):
        os.rename(partial, old)
    else:
        os.rename(directory, old)  # a kill from here to the next line is mended by clear_leftovers
        os.rename(partial, directory)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot (renameat2(2))."""
    rename = _renameat2()
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


@cache
def _renameat2() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return function


def verify(directory: Path) -> str | None:
    """None when every file is as its manifest says, else the reason why not."""
    manifest = read_json(directory / MANIFEST)
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        return "it has no manifest"
    for name, expected in files.items():
        path = directory / name
        if Path(name).is_absolute() or ".." in Path(name).parts or not _describes(expected):
            return "its manifest is damaged"
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['size']}"
        if _digest(path) != expected["xxh3_128"]:
            return f"{name} is damaged"
    return None


def _describes(expected: object) -> bool:
    return isinstance(expected, dict) and {"size", "xxh3_128"} <= expected.keys()


def digest_json(document: object) -> str:
    """The xxh3-128 of a document, the same for equal documents."""
    return xxhash.xxh3_128_hexdigest(orjson.dumps(document, option=orjson.OPT_SORT_KEYS))


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
