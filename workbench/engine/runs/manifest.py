"""Directories that are complete or absent: written aside, listed in a manifest, renamed, verified before use."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import xxhash

from workbench.engine.atomic import fsync_path, write_json
from workbench.engine.runs.store import read_json

MANIFEST = "manifest.json"


def write_complete(directory: Path, fill: Callable[[Path], None], facts: dict[str, Any]) -> None:
    """Make `directory` hold what `fill` writes, all of it or nothing, even across a kill or a power cut.

    `facts` (step, recipe hash, versions…) go into the manifest beside every file's size and xxh3-128.
    """
    partial = directory.parent / f".partial-{directory.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    fill(partial)
    files = {}
    for path in sorted(p for p in partial.rglob("*") if p.is_file()):
        files[str(path.relative_to(partial))] = {"size": path.stat().st_size, "xxh3_128": _digest(path)}
        fsync_path(path)
    write_json(partial / MANIFEST, {**facts, "files": files})
    if directory.exists():
        shutil.rmtree(directory)
    os.rename(partial, directory)
    fsync_path(directory.parent)


def verify(directory: Path) -> str | None:
    """None when every file is as its manifest says, else the reason why not."""
    manifest = read_json(directory / MANIFEST)
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        return "it has no manifest"
    for name, expected in files.items():
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['size']}"
        if _digest(path) != expected["xxh3_128"]:
            return f"{name} is damaged"
    return None


def digest_json(document: object) -> str:
    """The xxh3-128 of a document, the same for equal documents."""
    return xxhash.xxh3_128_hexdigest(orjson.dumps(document, option=orjson.OPT_SORT_KEYS))


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
