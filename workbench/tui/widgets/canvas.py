"""A grid of 2 x 4 dots per terminal cell, drawn as braille or as plain ASCII."""

DOTS_X = 2
"""Dot columns in a cell."""
DOTS_Y = 4
"""Dot rows in a cell."""

# Unicode numbers the braille dots 1-8 down the left column, down the right one, then the bottom row.
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))

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
    """Dots and, for each cell, who drew there last.

    ``width`` and ``height`` are in cells; dot coordinates start at the top left. ``masks`` and ``owners``
    hold one byte per cell, row by row; owner 0 is nobody. Dots off the grid are dropped.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = max(0, width)
        self.height = max(0, height)
        self.masks = bytearray(self.width * self.height)
        self.owners = bytearray(self.width * self.height)

    def dot(self, x: int, y: int, owner: int) -> None:
        """Set one dot."""
        if 0 <= x < self.width * DOTS_X and 0 <= y < self.height * DOTS_Y:
            cell = (y // DOTS_Y) * self.width + x // DOTS_X
            self.masks[cell] |= _BITS[y % DOTS_Y][x % DOTS_X]
            self.owners[cell] = owner

    def line(self, x0: int, y0: int, x1: int, y1: int, owner: int) -> None:
        """Join two dots, both included (Bresenham, J. E., IBM Systems Journal 4(1), 1965)."""
        dx, dy = abs(x1 - x0), -abs(y1 - y0)
        step_x = 1 if x0 < x1 else -1
        step_y = 1 if y0 < y1 else -1
        error = dx + dy
        while True:
            self.dot(x0, y0, owner)
            if x0 == x1 and y0 == y1:
                return
            doubled = 2 * error
            if doubled >= dy:
                error += dy
                x0 += step_x
            if doubled <= dx:
                error += dx
                y0 += step_y

    def over(self, below: "Canvas") -> None:
        """Fill the cells that are still empty from a canvas of the same size."""
        for cell, mask in enumerate(below.masks):
            if mask and not self.masks[cell]:
                self.masks[cell] = mask
                self.owners[cell] = below.owners[cell]

    def text(self, glyphs: tuple[str, ...] = BRAILLE) -> list[str]:
        """The rows as strings of ``width`` characters."""
        cells = [glyphs[mask] for mask in self.masks]
        return ["".join(cells[row * self.width : (row + 1) * self.width]) for row in range(self.height)]
