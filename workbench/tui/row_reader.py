"""The rows of a recipe's dataset, page by page. Everything here blocks: it belongs in a thread."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from workbench.engine.data.check import first_rows
from workbench.engine.data.examples import Located, Rejected, read_examples
from workbench.engine.data.formats import Format
from workbench.engine.data.readers import read_rows
from workbench.engine.data.sources import files_of, resolve_dataset
from workbench.engine.data.streams import Meter
from workbench.engine.data.values import BadRow, Row
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_data import DatasetPart
from workbench.engine.text import one_line

Item = Located | Rejected

PAGE = 200
_PAGE_CHARACTERS = 4_000_000
"""A page ends early when its rows are as long as this: no more than a few megabytes are held at once."""
_CONTEXT = 20
_PREVIEW = 160
_MOST_HELD = 20 * PAGE
_MOST_CHARACTERS = 32_000_000


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
        self._last: Item | None = None
        self._stream: Iterator[Item] = chain.from_iterable(self._parts())

    def _parts(self) -> Iterator[Iterator[Item]]:
        dataset = self._recipe.dataset
        for parts, most in ((dataset.parts, dataset.max_rows), (dataset.eval_parts, None)):
            for part in parts:
                yield first_rows(read_examples(part, self._recipe.objective, self._base_dir, Meter(),
                                               partial(self._note, part.path)), most)

    def _note(self, path: str, found: Format) -> None:
        self.formats.setdefault(path, found)

    def page(self, first: int, cancelled: Callable[[], bool]) -> list[Item]:
        """Up to PAGE rows from the row `first` on; fewer only where they are long or end. Raises InputError."""
        with self._lock:
            if first < self.position:
                self._restart()
            while self.position < first and not self.ended and not cancelled():
                self._next()
            return self._page(cancelled)

    def page_at(self, source: str | None, line: int, cancelled: Callable[[], bool]) -> tuple[int, list[Item]]:
        """The number of the first row of `source` (None: any) at or behind a line, and the rows around it: some from
        before it, and the page from there on. None where there is none."""
        before: deque[Item] = deque(maxlen=_CONTEXT)
        with self._lock:
            if self._last is None or source != self._last.source or line <= self._last.line:
                self._restart()
            while not cancelled() and (item := self._next()) is not None:
                if item.line >= line and source in (None, item.source):
                    return self.position - 1, [*before, item, *self._page(cancelled)]
                before.append(item)
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
        self._last = item or self._last
        return item


class RowWindow:
    """The rows that are held: a stretch of the dataset, which moves with the cursor and never grows beyond a few pages.

    `first` is the number of its first row, from 0.
    """

    def __init__(self) -> None:
        self.first = 0
        self.items: list[Item] = []
        self.ended = False

    def replace(self, first: int, items: list[Item], ended: bool) -> None:
        """Hold other rows."""
        self.first, self.items, self.ended = first, items, ended

    def append(self, items: list[Item], ended: bool) -> int:
        """Hold these behind the last ones too; says how many at the front had to go for them."""
        self.items += items
        self.ended = ended
        held, dropped = sum(map(cost, self.items)), 0
        while len(self.items) - dropped > _MOST_HELD or (held > _MOST_CHARACTERS and dropped < len(self.items) - PAGE):
            held -= cost(self.items[dropped])
            dropped += 1
        del self.items[:dropped]
        self.first += dropped
        return dropped


def cost(item: Item) -> int:
    """About how many characters a row holds."""
    return sum(map(len, _texts(item.example))) if isinstance(item, Located) else len(str(item.row))


def first_row(part: DatasetPart, base_dir: Path | None) -> Row:
    """The first readable row of a part as its file has it; empty where there is none. Raises InputError."""
    for path, name in files_of(resolve_dataset(part.path, base_dir), part.split):
        for _, row in read_rows(path, name):
            if not isinstance(row, BadRow):
                return row
    return {}


def preview(item: Item) -> str:
    """What tells a row from its neighbours, on one line: the question, the text, or what is wrong."""
    if isinstance(item, Rejected):
        return one_line(item.reason, _PREVIEW)
    example = item.example
    turns = example.get("prompt") or example.get("messages")
    asked = [turn["content"] for turn in turns if turn["role"] == "user"] if isinstance(turns, list) else []
    text = asked[-1] if asked else next(_texts(example), "")
    return one_line(text[:4 * _PREVIEW], _PREVIEW)


def _texts(example: Mapping[str, Any]) -> Iterator[str]:
    """The texts of an example, whatever its objective."""
    for value in example.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (turn["content"] for turn in value)
