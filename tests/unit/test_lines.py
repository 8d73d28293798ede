"""Which cells of a line are repainted."""

from textual.content import Content

from workbench.tui.widgets.lines import bar, changed_spans


def test_an_equal_line_is_left_alone() -> None:
    assert changed_spans(Content("step 1"), Content("step 1"), 40) == []


def test_only_the_cells_that_differ_are_named_and_near_ones_are_joined() -> None:
    assert changed_spans(Content("step 12 of 300"), Content("step 13 of 300"), 40) == [(6, 7)]
    assert changed_spans(Content("1.25 2.50"), Content("1.26 2.51"), 40) == [(3, 9)]
    assert changed_spans(Content("1" + " " * 30 + "2"), Content("3" + " " * 30 + "4"), 40) == [(0, 1), (31, 32)]


def test_a_shorter_line_wipes_what_stood_there() -> None:
    assert changed_spans(Content("12.5 GiB"), Content("12"), 10) == [(2, 8)]


def test_a_growing_bar_repaints_the_cells_it_gains() -> None:
    assert changed_spans(bar(0.5, 40), bar(0.55, 40), 40) == [(20, 22)]


def test_other_colours_or_wide_characters_repaint_the_line() -> None:
    assert changed_spans(bar(0.5, 40), bar(0.5, 40, "$error"), 40) == [(0, 40)]
    assert changed_spans(Content("名前 1"), Content("名前 2"), 40) == [(0, 40)]


def test_a_bar_is_never_longer_than_its_width() -> None:
    for fraction in (-1.0, 0.0, 0.3, 1.0, 7.0):
        assert bar(fraction, 10).cell_length == 10
    assert bar(0.5, -3).cell_length == 0
    assert bar(0.5, 4, ascii=True).plain == "==--"
