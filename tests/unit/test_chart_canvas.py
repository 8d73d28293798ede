"""Rasterisation of dots, lines and layers against pictures drawn by hand."""

import pytest

from workbench.tui.widgets.canvas import ASCII, BRAILLE, Canvas, merge


def picture(canvas: Canvas) -> list[str]:
    """The dots one character each, from the masks alone."""
    bits = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
    return [
        "".join(
            "#" if canvas.masks[y // 4 * canvas.width + x // 2] & bits[y % 4][x % 2] else "."
            for x in range(canvas.width * 2)
        )
        for y in range(canvas.height * 4)
    ]


def text(canvas: Canvas, glyphs: tuple[str, ...]) -> list[str]:
    return merge([(canvas, 1)], len(canvas.masks)).text(canvas.width, glyphs)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0, 0, 3, 3), ["#...", ".#..", "..#.", "...#"]),
        ((0, 3, 3, 0), ["...#", "..#.", ".#..", "#..."]),
        ((0, 1, 3, 1), ["....", "####", "....", "...."]),
        ((2, 0, 2, 3), ["..#.", "..#.", "..#.", "..#."]),
        ((0, 0, 3, 1), ["##..", "..##", "....", "...."]),
        ((1, 0, 2, 3), [".#..", ".#..", "..#.", "..#."]),
        ((1, 2, 1, 2), ["....", "....", ".#..", "...."]),
    ],
)
def test_a_line_joins_both_ends(ends: tuple[int, int, int, int], expected: list[str]) -> None:
    canvas = Canvas(2, 1)
    canvas.line(*ends)
    assert picture(canvas) == expected


@pytest.mark.parametrize("ends", [(0, 0, 19, 5), (0, 23, 1, 0), (19, 3, 0, 20), (4, 0, 11, 23), (9, 9, 2, 8)])
def test_a_line_has_no_holes(ends: tuple[int, int, int, int]) -> None:
    canvas = Canvas(10, 6)
    canvas.line(*ends)
    dots = {(x, y) for y, row in enumerate(picture(canvas)) for x, dot in enumerate(row) if dot == "#"}
    assert {ends[:2], ends[2:]} <= dots
    assert len(dots) == max(abs(ends[2] - ends[0]), abs(ends[3] - ends[1])) + 1
    reached, edge = {ends[:2]}, [ends[:2]]
    while edge:
        x, y = edge.pop()
        near = {(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)} & dots - reached
        reached |= near
        edge += near
    assert reached == dots


def test_columns_cross_cells_and_are_cut_at_the_edges() -> None:
    canvas = Canvas(1, 2)
    canvas.column(0, 6, 2)
    canvas.column(1, -5, 0)
    canvas.column(1, 7, 99)
    canvas.column(2, 0, 7)
    assert picture(canvas) == [".#", "..", "#.", "#.", "#.", "#.", "#.", ".#"]


def test_glyphs() -> None:
    canvas = Canvas(3, 1)
    canvas.line(0, 3, 3, 0)
    assert text(canvas, BRAILLE) == ["⡠⠊ "]
    assert text(canvas, ASCII) == ["-' "]
    canvas.column(4, 0, 3)
    assert text(canvas, ASCII) == ["-'|"]
    assert all(character.isascii() and character.isprintable() for character in ASCII)
    assert ASCII[0] == BRAILLE[0] == " "
    assert " " not in ASCII[1:]


def test_a_shared_cell_shows_all_dots_and_belongs_to_the_topmost() -> None:
    below, top = Canvas(2, 1), Canvas(2, 1)
    below.line(0, 0, 3, 0)
    top.column(0, 3, 3)
    layer = merge([(below, 7), (top, 2)], 2)
    assert layer.text(2) == ["⡉⠉"]
    assert list(layer.owners) == [2, 7]


def test_what_lies_beneath_shows_only_in_empty_cells() -> None:
    solid, faint = Canvas(2, 1), Canvas(2, 1)
    solid.column(0, 0, 0)
    faint.line(0, 3, 3, 3)
    layer = merge([(solid, 1)], 2).over(merge([(faint, 9)], 2))
    assert layer.text(2) == ["⠁⣀"]
    assert list(layer.owners) == [1, 9]
