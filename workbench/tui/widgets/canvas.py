"""A grid of 2 x 4 dots per terminal cell, drawn as braille or as plain ASCII."""

from collections.abc import Iterable
from typing import NamedTuple

DOTS_X = 2
"""Dot columns in a cell."""
DOTS_Y = 4
"""Dot rows in a cell."""

# Unicode numbers the braille dots 1-8 down the left column, down the right one, then the bottom row.
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))

_FILLED = bytes(255 if mask else 0 for mask in range(256))

_RUNS = {
    (x, top, bottom): sum(_BITS[row][x] for row in range(top, bottom + 1))
    for x in range(DOTS_X)
    for top in range(DOTS_Y)
    for bottom in range(top, DOTS_Y)
}
"""Mask of an unbroken run of dots in one dot column of a cell."""

BRAILLE: tuple[str, ...] = (" ", *(chr(0x2800 + mask) for mask in range(1, 256)))
"""Glyph of every dot mask; an empty cell is a space, which is one byte on the wire where U+2800 is three."""


def _ascii_glyph(mask: int) -> str:
    left = [row for row in range(DOTS_Y) if mask & _BITS[row][0]]
    right = [row for row in range(DOTS_Y) if mask & _BITS[row][1]]
    dots = left + right
    if not dots:
        return " "
    height = max(dots) - min(dots) + 1
    if not left or not right:
        if height >= 3:
            return "|"
        return ":" if height == 2 else "'-.."[dots[0]]
    rise = sum(left) / len(left) - sum(right) / len(right)
    if len(dots) >= 6:
        return "*"
    if abs(rise) >= 1.5:
        return "/" if rise > 0 else "\\"
    if height <= 2:
        return "'--_"[round(sum(dots) / len(dots))]
    return "*"


ASCII: tuple[str, ...] = tuple(_ascii_glyph(mask) for mask in range(256))
"""Glyph of every dot mask in seven-bit characters."""


class Canvas:
    """Dots on ``width`` x ``height`` cells; dot coordinates start at the top left, dots off the grid are dropped.

    ``masks`` holds one byte per cell, row by row.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = max(0, width)
        self.height = max(0, height)
        self.masks = bytearray(self.width * self.height)

    def column(self, x: int, y0: int, y1: int) -> None:
        """Set every dot of a dot column from ``y0`` to ``y1``, both included and in any order."""
        if y0 > y1:
            y0, y1 = y1, y0
        top, bottom = max(0, y0), min(self.height * DOTS_Y - 1, y1)
        if top > bottom or not 0 <= x < self.width * DOTS_X:
            return
        first, last, side = top // DOTS_Y, bottom // DOTS_Y, x % DOTS_X
        cell = first * self.width + x // DOTS_X
        for row in range(first, last + 1):
            from_dot = top % DOTS_Y if row == first else 0
            to_dot = bottom % DOTS_Y if row == last else DOTS_Y - 1
            self.masks[cell] |= _RUNS[side, from_dot, to_dot]
            cell += self.width

    def line(self, x0: int, y0: int, x1: int, y1: int) -> None:
        """Join two dots, both included (Bresenham, J. E., IBM Systems Journal 4(1), 1965)."""
        dx, dy = abs(x1 - x0), -abs(y1 - y0)
        step_x = 1 if x0 < x1 else -1
        step_y = 1 if y0 < y1 else -1
        error = dx + dy
        run = y0
        while x0 != x1 or y0 != y1:
            doubled = 2 * error
            next_y = y0
            if doubled <= dx:
                error += dx
                next_y = y0 + step_y
            if doubled >= dy:
                # The dots of one column are set together, which a steep line makes worth while.
                self.column(x0, run, y0)
                error += dy
                x0 += step_x
                run = next_y
            y0 = next_y
        self.column(x0, run, y0)


class Layer(NamedTuple):
    """Dots of several canvases: a mask and an owner per cell, row by row; owner 0 is nobody."""

    masks: bytes
    owners: bytes

    def text(self, width: int, glyphs: tuple[str, ...] = BRAILLE) -> list[str]:
        """The rows as strings of ``width`` characters."""
        text = "".join(map(glyphs.__getitem__, self.masks))
        return [text[start : start + width] for start in range(0, len(text), width)]

    def over(self, below: "Layer") -> "Layer":
        """This layer, and in the cells that are empty in it the one below."""
        keep = int.from_bytes(self.masks.translate(_FILLED), "little") ^ _cells(len(self.masks), 255)
        masks, owners = (
            (int.from_bytes(mine, "little") | int.from_bytes(other, "little") & keep).to_bytes(len(mine), "little")
            for mine, other in zip(self, below, strict=True)
        )
        return Layer(masks, owners)


def merge(canvases: Iterable[tuple[Canvas, int]], size: int) -> Layer:
    """All dots of canvases of ``size`` cells, each with its owner's number (1 to 255), the topmost last.

    A cell with dots of several belongs to the topmost.
    """
    # Whole canvases as integers: one operation on all cells at once.
    masks = owners = 0
    for canvas, owner in canvases:
        filled = int.from_bytes(canvas.masks.translate(_FILLED), "little")
        masks |= int.from_bytes(canvas.masks, "little")
        owners = (owners & ~filled) | (filled & _cells(size, owner))
    return Layer(masks.to_bytes(size, "little"), owners.to_bytes(size, "little"))


def _cells(count: int, value: int) -> int:
    return int.from_bytes(bytes([value]) * count, "little")
