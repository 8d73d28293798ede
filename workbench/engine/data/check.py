"""The structural check of a dataset: every row read once, in bounded memory; what is wrong with which line."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from workbench.engine.data.examples import Located, Rejected, read_examples
from workbench.engine.data.findings import Finding
from workbench.engine.data.formats import Format
from workbench.engine.data.scan import MOST_REJECTED, Scan, findings_of
from workbench.engine.data.sources import DataError, files_of, resolve_dataset
from workbench.engine.data.streams import MOST_ROW_BYTES, Meter
from workbench.engine.errors import InputError, RunError
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_data import DatasetPart, DatasetSettings

TRAIN = "dataset.path"
_EVAL_SPLIT = "dataset.eval_split"
_LOOK_EVERY = 512
"""Rows from the Hub, which have no bytes to go by."""


class CheckCancelled(RunError):  # noqa: N818 (the user asked for it: no error)
    """The check was stopped by whoever asked for it."""


class Read(Protocol):
    """How a part is read: `read_examples`, or something that reads the Hub too."""

    def __call__(self, part: DatasetPart, objective: str, base_dir: Path | None, meter: Meter | None = None,
                 on_format: Callable[[Format], None] = ...) -> Iterator[Located | Rejected]:
        """As `read_examples`."""
        ...


@dataclass(frozen=True)
class StructureReport:
    """What the rows of a recipe's dataset are, its evaluation rows apart."""

    format: str
    """Its name; several, joined by +, where a mixture has several."""
    why: str
    columns: Mapping[str, str]
    """Which column was taken for what: ours to theirs."""
    rows: int
    """Rows read, usable or not."""
    usable_rows: int
    examples: int
    """What the usable rows make: for kto, a pair makes two."""
    eval_rows: int
    rejected: tuple[Rejected, ...]
    """The first 1000, training and evaluation rows alike."""
    rejected_count: int
    duplicates: int
    findings: tuple[Finding, ...]
    exact: bool
    """False: reading stopped at a limit, and everything but the estimate is of the rows before it."""
    rows_estimated: int | None
    """Rows there are, by the bytes that those read took; None when exact."""
    part_examples: tuple[int, ...]
    """Examples of each part of the training data, estimated where it was not read to its end; 0 for one not read."""
    sample: tuple[Located, ...] = field(repr=False)
    """Evenly spread over what was read."""
    bytes_read: int


def check_structure(recipe: Recipe, base_dir: Path | None, *, limit_bytes: int | None = None,
                    on_progress: Callable[[int, int], None] = lambda done, total: None,
                    cancelled: Callable[[], bool] = lambda: False, read: Read = read_examples) -> StructureReport:
    """Read every row of a recipe's training and evaluation data, or the first `limit_bytes` of it.

    `on_progress` gets (bytes done, bytes in all). What is on the Hub is left out unless `read` can read it. Raises
    DataError where data as a whole cannot be used, CheckCancelled when `cancelled` became true.
    """
    settings = recipe.dataset
    train, held_out = Scan(), Scan()
    parts = [(train if setting == TRAIN else held_out, part, setting) for part, setting in parts_of(settings)]
    sizes = [_bytes_of(part, base_dir, setting) for _, part, setting in parts]
    known = sum(size or 0 for size in sizes)
    share = None if limit_bytes is None else limit_bytes // len(parts)
    before = 0

    def look(done: int) -> None:
        on_progress(before + done, known)
        if cancelled():
            raise CheckCancelled("The data check was cancelled.")

    for (scan, part, setting), size in zip(parts, sizes, strict=True):
        if size is None and read is read_examples:
            scan.skip_part()
            continue
        reading = _Part(scan, size or 0, share, look)
        with concerning(setting):
            rows = read(part, recipe.objective, base_dir, reading.meter, scan.note(part.path))
            if not reading.scan_rows(first_rows(rows, settings.max_rows if scan is train else None)):
                read_so_far = f" that ends within its first {reading.meter.done >> 20} MiB" if size else ""
                raise DataError(f"{part.path} has no row{read_so_far}.")
        before += size or 0
    look(0)
    if recipe.objective == "reward":
        _refuse_half_with_prompts(train, held_out)
    return _report(train, held_out)


def parts_of(settings: DatasetSettings) -> list[tuple[DatasetPart, str]]:
    """Every part of the data, with the setting that names it."""
    held_out = "dataset.eval_path" if settings.eval_path is not None else _EVAL_SPLIT
    return [*((part, TRAIN) for part in settings.parts), *((part, held_out) for part in settings.eval_parts)]


@contextmanager
def concerning(setting: str) -> Iterator[None]:
    """Errors about the user's data name the setting that they come from."""
    try:
        yield
    except InputError as error:
        raise DataError(error.message, error.hint, setting) from None
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise DataError(f"Cannot read {what}.", field=setting) from None


class _EnoughError(Exception):
    """The limit is reached within a row that has no end."""


class _Part:
    """The reading of one part: `share` bytes of its `size`, or all."""

    def __init__(self, scan: Scan, size: int, share: int | None, look: Callable[[int], None]) -> None:
        self._scan, self._size, self._look = scan, size, look
        self._share = size if share is None else share
        self.meter = Meter(on_block=self._on_block)

    def scan_rows(self, rows: Iterable[Located | Rejected]) -> bool:
        """Read the rows, as many as the share allows; whether there were any."""
        number = 0
        try:
            for number, found in enumerate(rows, 1):
                self._scan.add(found)
                if self._share <= self.meter.done < self._size:
                    raise _EnoughError
                if not self._size and number % _LOOK_EVERY == 0:
                    self._look(0)
        except _EnoughError:
            self._scan.end_part(self.meter.done, self._size)
        else:
            self._scan.end_part(self.meter.done)
        return number > 0

    def _on_block(self, done: int) -> None:
        self._look(min(done, self._size))
        if self._share + MOST_ROW_BYTES <= done < self._size:
            raise _EnoughError


def _bytes_of(part: DatasetPart, base_dir: Path | None, setting: str) -> int | None:
    with concerning(setting):
        source = resolve_dataset(part.path, base_dir)
        if setting == _EVAL_SPLIT and source.kind in ("file", "built-in"):
            raise DataError(f"{part.path} is one file and has no split {part.split!r}.",
                            "Name rows to evaluate on with dataset.eval_path, or set some aside with eval_fraction.")
        return None if source.path is None else sum(path.stat().st_size for path, _ in files_of(source, part.split))


def first_rows(rows: Iterable[Located | Rejected], most: int | None) -> Iterator[Located | Rejected]:
    """Everything from the first `most` rows; a row may make several examples."""
    count, last = 0, None
    for found in rows:
        if (found.source, found.line) != last:
            count, last = count + 1, (found.source, found.line)
            if most is not None and count > most:
                return
        yield found


def _refuse_half_with_prompts(*scans: Scan) -> None:
    """Raises DataError where some parts of a reward model's data have prompts and others do not: an answer alone and a
    whole conversation are different things to score."""
    named = {form.name: path for scan in scans for (path, _), form in scan.forms.items()}
    alone = named.pop("accepted-rejected", None)
    if alone is not None and named:
        raise DataError(f"{alone} has pairs without prompts, and {next(iter(named.values()))} has pairs with prompts: "
                        "a reward model learns to score one or the other.",
                        "Leave one out, or name the column of the prompts with `columns`.")


def _report(train: Scan, held_out: Scan) -> StructureReport:
    forms = train.forms
    names = dict.fromkeys(form.name for form in forms.values())
    whys = dict.fromkeys(form.why if len(forms) == 1 else f"{path}: {form.why}" for (path, _), form in forms.items())
    rejected = (*train.rejected, *held_out.rejected)
    exact = not (train.stopped or held_out.stopped)
    duplicates, found = findings_of(train, held_out)
    return StructureReport(
        format=" + ".join(names), why="; ".join(whys),
        columns={ours: theirs for form in reversed(forms.values()) for ours, theirs in form.columns.items()},
        rows=train.rows, usable_rows=train.usable, examples=train.examples, eval_rows=held_out.rows,
        rejected=rejected[:MOST_REJECTED], rejected_count=train.rejected_count + held_out.rejected_count,
        duplicates=duplicates, findings=found, exact=exact,
        rows_estimated=None if exact else round(train.estimated), part_examples=tuple(train.part_examples),
        sample=train.sample.examples, bytes_read=train.bytes_read + held_out.bytes_read)
