"""Where a dataset is: built in, a local file or folder, or an id on the Hub; and which files hold a split of it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.engine.errors import InputError
from workbench.engine.paths import assets_dir
from workbench.engine.text import nearest, one_line

BUILT_IN = {
    "glossary": "glossary.jsonl",
    "glossary-held-out": "glossary_held_out.jsonl",
    "glossary-text": "glossary_text.jsonl",
    "glossary-text-held-out": "glossary_text_held_out.jsonl",
    "glossary-pairs": "glossary_pairs.jsonl",
    "glossary-pairs-held-out": "glossary_pairs_held_out.jsonl",
}
KINDS = {
    ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".json": "JSON", ".csv": "CSV", ".tsv": "TSV",
    ".parquet": "Parquet", ".txt": "plain text", ".md": "plain text",
}  # fmt: skip
COMPRESSED = (".gz", ".zst")
_MOST_ENTRIES = 10_000
"""Files and folders that are looked through: a path is typed letter by letter, and begins with the whole disk."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# The words that `datasets` takes for a split in the name of a file.
_SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
# What lies beside the data in a dataset's folder and is no data.
_BESIDE = re.compile(r"(readme|licen[sc]e|notice|changelog|dataset_infos?|dataset_dict|state)\b", re.IGNORECASE)


class DataError(InputError):
    """Data that cannot be used as a whole; the message names the file and the reason, `field` the recipe's setting."""

    def __init__(self, message: str, hint: str | None = None, field: str = "dataset.path") -> None:
        super().__init__(message, hint)
        self.field = field


@dataclass(frozen=True)
class DatasetSource:
    """Where the rows are. `path` is None for a dataset on the Hub, whose id is `name`."""

    name: str
    kind: Literal["built-in", "file", "folder", "hub"]
    path: Path | None


def kind_of_file(path: Path) -> str | None:
    """What kind of rows a file holds, by its ending; None for a kind that cannot be read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
        return KINDS.get(suffixes[-1]) if suffixes and suffixes[-1] != ".parquet" else None
    return KINDS.get(suffixes[-1]) if suffixes else None


def resolve_dataset(reference: str, base_dir: Path | None = None) -> DatasetSource:
    """What a recipe's `dataset.path` means; relative paths start from `base_dir`. Raises InputError."""
    if reference in BUILT_IN:
        return DatasetSource(reference, "built-in", assets_dir() / BUILT_IN[reference])
    if not reference.strip():
        raise InputError("No dataset is named.", f"Built in: {', '.join(BUILT_IN)}.")
    try:
        found = _on_this_disk(reference, base_dir)
    except (OSError, RuntimeError) as error:  # a name too long, or the home of nobody
        raise InputError(f"There is no dataset {one_line(reference, 60)!r}: {one_line(str(error), 60)}.") from None
    if found is not None:
        return found
    if _HUB_ID.fullmatch(reference) and not reference.startswith(".") and kind_of_file(Path(reference)) is None:
        return DatasetSource(reference, "hub", None)
    guess = nearest(reference, BUILT_IN)
    raise InputError(f"There is no dataset {reference!r}: no such file, and not an owner/name id on the Hub.",
                     f"Did you mean {guess}?" if guess else f"Built in: {', '.join(BUILT_IN)}.")


def _on_this_disk(reference: str, base_dir: Path | None) -> DatasetSource | None:
    path = Path(reference).expanduser()
    if not path.is_absolute():
        path = (base_dir or Path.cwd()) / path
    if path.is_dir():
        return DatasetSource(reference, "folder", path.resolve())
    if not path.is_file():
        return None
    if kind_of_file(path) is None:
        raise InputError(f"{path.name} is not a kind of file that can be read.",
                         f"Readable: {', '.join(KINDS)}; all but .parquet also with {' or '.join(COMPRESSED)}.")
    return DatasetSource(reference, "file", path.resolve())


def files_of(source: DatasetSource, split: str | None) -> list[tuple[Path, str]]:
    """The files of a local source and how to call them: a folder's are those whose name says the split, or all where
    no name says any. Raises DataError."""
    if source.path is None:
        return []
    if source.kind != "folder":
        return [(source.path, source.name)]
    files = _data_files(source.path)
    if not files:
        raise DataError(f"There is no data in the folder {source.name}.", f"Readable: {', '.join(KINDS)}.")
    wanted = split or "train"
    by_split: dict[str, list[Path]] = {}
    for path in files:
        by_split.setdefault(_split_of(path.relative_to(source.path)) or "", []).append(path)
    chosen = by_split.get(_SPLITS.get(wanted.lower(), wanted.lower()))
    if chosen is None and set(by_split) == {""} and wanted == "train":
        chosen = files
    if chosen is None:
        named = sorted(filter(None, by_split))
        raise DataError(f"The folder {source.name} has no file for the split {wanted!r}.",
                        f"Its splits, by the names of its files: {', '.join(named)}." if named
                        else "No file's name says train, validation or test.")
    kinds = sorted({str(kind_of_file(path)) for path in chosen})
    if len(kinds) > 1:
        raise DataError(f"The folder {source.name} mixes {' and '.join(kinds)}.", "Name the files of one kind instead.")
    return [(path, f"{source.name.rstrip('/')}/{path.relative_to(source.path)}") for path in chosen]


def _data_files(folder: Path) -> list[Path]:
    files: list[Path] = []
    seen = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        seen += len(folders) + len(names)
        if seen > _MOST_ENTRIES:
            raise DataError(f"The folder {folder} holds more than {_MOST_ENTRIES:,} files and folders.",
                            "Name the one in it that holds the data alone.")
        files += [Path(root, name) for name in sorted(names) if not name.startswith(".") and not _BESIDE.match(name)
                  and kind_of_file(Path(name)) is not None]
    files = [path for path in files if path.is_file()]
    # Notes lie beside tables; they are the data only where there is nothing else.
    rows = [path for path in files if kind_of_file(path) != "plain text"]
    return rows or files


def _split_of(path: Path) -> str | None:
    """The split that a file's name says, else its folder's."""
    for part in reversed(path.parts):
        for word in re.split(r"[^a-z0-9]+", part.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return None
