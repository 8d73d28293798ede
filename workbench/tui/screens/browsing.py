"""Going through the rows of a dataset of any size: a page at a time, read by a thread, around a cursor."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from textual import on, work
from textual.worker import get_current_worker

from workbench.engine.data.examples import Rejected
from workbench.engine.data.values import Row
from workbench.engine.errors import InputError
from workbench.engine.recipe import Recipe
from workbench.tui.row_reader import PAGE, Item, RowReader, RowWindow, first_row, preview
from workbench.tui.screens.base import WorkbenchScreen
from workbench.tui.widgets.row_list import RowLine, RowList

_AHEAD = 50
"""Rows left before the end of what is held, when the next page is read."""


class BrowsingScreen(WorkbenchScreen):
    """A screen with a `RowList`; subclasses give `show_row` and `show_reading`."""

    def __init__(self) -> None:
        super().__init__()
        self.reader: RowReader | None = None
        self.problem: InputError | None = None
        """Why there are no rows."""
        self.raw_row: Row = {}
        """Then the first row as its file has it, if there is one."""
        self.reading = ""
        """What is being read, in words; empty when nothing is."""
        self._window = RowWindow()
        self._lines: list[RowLine] = []

    def show_row(self) -> None:
        """The cursor stands on another row: see `row` and `row_number`."""
        raise NotImplementedError

    def show_reading(self) -> None:
        """`reading` or `problem` has changed."""
        raise NotImplementedError

    @property
    def row_number(self) -> int:
        """The number of the row under the cursor, from 0."""
        return self._window.first + self.query_one(RowList).cursor

    @property
    def row(self) -> Item | None:
        """The row under the cursor."""
        index = self.query_one(RowList).cursor
        return self._window.items[index] if index < len(self._window.items) else None

    def rows_from(self, number: int, count: int) -> list[tuple[int, Item]]:
        """The rows that are held from one on, with their numbers."""
        start = max(number - self._window.first, 0)
        return list(enumerate(self._window.items[start:start + count], self._window.first + start))

    def open_rows(self, recipe: Recipe, base_dir: Path | None) -> None:
        """Begin with another dataset."""
        self.reader, self.problem = None, None
        self._window.replace(0, [], False)
        self._lines = []
        self.query_one(RowList).show([], 0)
        self._say("reading the first rows")
        self._open(recipe, base_dir)

    def find_line(self, source: str | None, line: int) -> None:
        """Go to the first row at a line or behind it, of a source or of any."""
        held = next((index for index, item in enumerate(self._window.items)
                     if item.line >= line and source in (None, item.source)), None)
        if held is not None and (held or self._window.items[0].line == line):
            self._show(held)
        elif self.reader is not None:
            self._say(f"looking for line {line:,} (esc stops)")
            self._find(self.reader, source, line)

    def stop_reading(self) -> bool:
        """Stop what is being read; False when nothing was."""
        was_reading = bool(self.reading)
        self.workers.cancel_group(self, "rows")
        self._say("")
        return was_reading

    @work(thread=True, exclusive=True, group="rows")
    def _open(self, recipe: Recipe, base_dir: Path | None) -> None:
        def read(cancelled: Callable[[], bool]) -> tuple[RowReader, list[Item]]:
            reader = RowReader(recipe, base_dir)
            self.raw_row = {}
            try:
                return reader, reader.page(0, cancelled)
            except InputError:
                with suppress(InputError):
                    self.raw_row = first_row(recipe.dataset.parts[0], base_dir)
                raise

        self._in_thread(read, lambda found: self._take(found[0], 0, found[1], 0))

    @work(thread=True, exclusive=True, group="rows")
    def _page(self, reader: RowReader, first: int, cursor: int) -> None:
        self._in_thread(lambda cancelled: reader.page(first, cancelled),
                        lambda items: self._take(reader, first, items, cursor))

    @work(thread=True, exclusive=True, group="rows")
    def _find(self, reader: RowReader, source: str | None, line: int) -> None:
        def take(found: tuple[int, list[Item]]) -> None:
            number, items = found
            if items:
                self._take(reader, reader.position - len(items), items, number)
            else:
                self._say("")
                self.notify(f"There is no line {line:,}.", markup=False)

        self._in_thread(lambda cancelled: reader.page_at(source, line, cancelled), take)

    def _in_thread(self, read: Callable[[Callable[[], bool]], Any], take: Callable[[Any], None]) -> None:
        worker = get_current_worker()
        try:
            found = read(lambda: worker.is_cancelled)
        except InputError as error:
            found, take = error, self._fail
        if not worker.is_cancelled:
            self.app.call_from_thread(take, found)

    def _fail(self, error: InputError) -> None:
        self.problem = error
        self._say("")
        self.show_row()

    def _take(self, reader: RowReader, first: int, items: list[Item], cursor: int) -> None:
        """Hold a page: behind the rows that are held, or instead of them; the cursor then on the row `cursor`."""
        self.reader = reader
        window = self._window
        if window.items and first == window.first + len(window.items):
            cursor = self.row_number
            gone = window.append(items, reader.ended)
        else:
            gone = 0
            self._lines = []
            window.replace(first, items, reader.ended)
        self._say("")
        self._show(cursor - window.first, gone)

    def _show(self, cursor: int, gone: int = 0) -> None:
        self._lines = self._lines[gone:]
        self._lines += [RowLine(item.line, preview(item), isinstance(item, Rejected))
                        for item in self._window.items[len(self._lines):]]
        self.query_one(RowList).show(self._lines, cursor, gone)
        self.show_row()

    def _say(self, reading: str) -> None:
        self.reading = reading
        self.show_reading()

    @on(RowList.Moved)
    def _moved(self, event: RowList.Moved) -> None:
        event.stop()
        self.show_row()
        window, reader = self._window, self.reader
        if reader is None or self.reading:
            return
        if event.index >= len(window.items) - _AHEAD and not window.ended:
            self._say("reading on")
            self._page(reader, window.first + len(window.items), self.row_number)
        elif event.index == 0 and window.first:
            self._say("reading what comes before")
            self._page(reader, max(window.first - PAGE + 1, 0), self.row_number)
