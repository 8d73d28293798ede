"""The rows of a recipe's dataset, page by page. Everything here blocks: it belongs in a thread."""

import threading
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from workbench.engine.data.examples import Located, Rejected, example_text, read_examples
from workbench.engine.data.formats import Format
from workbench.engine.data.readers import read_rows
from workbench.engine.data.sources import files_of, resolve_dataset
from workbench.engine.data.streams import Meter
from workbench.engine.data.values import BadRow
from workbench.engine.recipe import Recipe

Item = Located | Rejected

PAGE = 200
_PAGE_CHARACTERS = 4_000_000
"""A page ends early when its rows are as long as this: no more than a few megabytes are held at once."""


class RowReader:
    """One pass over the rows, which can begin anew. `position` is the number of the row that comes next, from 0."""

    def __init__(self, recipe: Recipe, base_dir: Path | None) -> None:
        self._recipe = recipe
        self._base_dir = base_dir
        self._lock = threading.Lock()
        self.formats: dict[str, Format] = {}
        """What format each source was found to have, by its path in the recipe."""
        self._restart()

    def _restart(self) -> None:
        self.position = 0
        self.ended = False
        self.meter = Meter()
        parts = self._recipe.dataset.parts
        self._stream: Iterator[Item] = chain.from_iterable(
            read_examples(part, self._recipe.objective, self._base_dir, self.meter,
                          lambda found, path=part.path: self.formats.setdefault(path, found))  # type: ignore[misc]
            for part in parts)

    def page(self, first: int, cancelled: Callable[[], bool]) -> list[Item]:
        """Up to PAGE rows from the row `first` on; fewer only where they are long or end. Raises InputError."""
        with self._lock:
            if first < self.position:
                self._restart()
            while self.position < first and not self.ended and not cancelled():
                self._next()
            return self._page(cancelled)

    def page_at(self, source: str | None, line: int, cancelled: Callable[[], bool]) -> tuple[int, list[Item]]:
        """The number of the first row of `source` (None: any) at or behind a line, and the page from there on."""
        with self._lock:
            self._restart()
            while not cancelled():
                item = self._next()
                if item is None:
                    return self.position, []
                if item.line >= line and source in (None, item.source):
                    return self.position - 1, [item, *self._page(cancelled)]
            return self.position, []

    def _page(self, cancelled: Callable[[], bool]) -> list[Item]:
        items: list[Item] = []
        size = 0
        while len(items) < PAGE and size < _PAGE_CHARACTERS and not cancelled():
            item = self._next()
            if item is None:
                break
            items.append(item)
            size += cost(item)
        return items

    def _next(self) -> Item | None:
        item = next(self._stream, None)
        self.ended = item is None
        self.position += item is not None
        return item


def cost(item: Item) -> int:
    """About how many characters a row holds."""
    return len(example_text(item.example)) if isinstance(item, Located) else len(str(item.row))


def first_row(recipe: Recipe, base_dir: Path | None) -> dict[str, Any]:
    """The first readable row of the dataset as its file has it; empty where there is none. Raises InputError."""
    for part in recipe.dataset.parts:
        for path, name in files_of(resolve_dataset(part.path, base_dir), part.split):
            for _, row in read_rows(path, name):
                if not isinstance(row, BadRow):
                    return row
    return {}
