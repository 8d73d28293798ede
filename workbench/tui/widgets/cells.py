"""A grid of terminal cells with a style number each, and the spans in which two grids differ."""

from collections.abc import Sequence
from unicodedata import normalize

from rich.cells import cell_len

Row = tuple[list[str], bytearray]
"""One line: the text of each cell ('' in the second cell of a wide character) and its style number."""


def text_cells(text: str, ascii: bool = False) -> list[str]:
    """``text`` as cells; what has no width or moves the cursor is dropped, wide characters take two cells."""
    if ascii:
        return list("".join(ch if " " <= ch <= "~" else "?" for ch in normalize("NFC", text)))
    cells: list[str] = []
    for character in normalize("NFC", text):
        width = cell_len(character) if character.isprintable() else 0
        if width:
            cells += [character] + [""] * (width - 1)
    return cells


class Grid:
    """``height`` rows of ``width`` cells, empty at first. Writing outside is cut off."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.rows: list[Row] = [([" "] * width, bytearray(width)) for _ in range(height)]

    def put(self, x: int, y: int, cells: str | Sequence[str], style: int) -> None:
        """Write cells from column ``x`` of row ``y`` on; half a wide character at an edge becomes a space."""
        if not 0 <= y < self.height:
            return
        texts, styles = self.rows[y]
        for column, cell in enumerate(cells, x):
            if 0 <= column < self.width:
                cut = (cell == "" and column == 0) or (column == self.width - 1 and cell_len(cell) > 1)
                texts[column] = " " if cut else cell
                # An empty cell has no style of its own, so that it never counts as changed.
                styles[column] = style if texts[column] != " " else 0


def changed_span(old: Row, new: Row) -> tuple[int, int] | None:
    """First and one past the last column in which two rows of equal width differ, None if they do not.

    The span never starts or ends inside a wide character of either row.
    """
    if old == new:
        return None
    (old_texts, old_styles), (new_texts, new_styles) = old, new
    differ = [
        column
        for column in range(len(new_texts))
        if old_texts[column] != new_texts[column] or old_styles[column] != new_styles[column]
    ]
    start, stop = differ[0], differ[-1] + 1
    while start > 0 and "" in (old_texts[start], new_texts[start]):
        start -= 1
    while stop < len(new_texts) and "" in (old_texts[stop], new_texts[stop]):
        stop += 1
    return start, stop
