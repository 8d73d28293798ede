"""One row of a dataset in full: as its file has it, or, once a worker has rendered it, token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from workbench.engine.data.examples import Located, Rejected
from workbench.engine.inspection import RenderedRow
from workbench.engine.text import sanitise
from workbench.tui.data_checks import DataCheck
from workbench.tui.format import plain_title
from workbench.tui.row_reader import Item
from workbench.tui.widgets.token_text import Tokens, legend, tokens_content, tokens_note

_MUTED = "$foreground 55%"
_ROLE_STYLES = {"assistant": "bold $primary", "user": "bold $warning"}
_MOST_CHARACTERS = 20_000
"""Of a text that is shown: nobody reads on, and laying it out takes time."""
_WIDE = 76


@dataclass(frozen=True, slots=True)
class Rendered:
    """One sequence of a row: its `title` such as `chosen`, or empty where there is only one."""

    title: str
    tokens: Tokens


class RowView(VerticalScroll, can_focus=True):
    """Two texts side by side where there are two and room for them, else one below the other."""

    DEFAULT_CSS = """
    RowView { scrollbar-size-vertical: 1; scrollbar-background: $background; scrollbar-color: $border; }
    RowView Static { height: auto; width: 1fr; }
    RowView #texts { height: auto; layout: vertical; }
    RowView.-beside #texts { layout: horizontal; }
    RowView.-beside #first { margin-right: 2; }
    RowView #second { margin-top: 1; }
    RowView.-beside #second { margin-top: 0; }
    RowView #head { margin-bottom: 1; }
    RowView #foot { margin-top: 1; }
    """

    def __init__(self) -> None:
        super().__init__(classes="panel")
        self._two = False

    def compose(self) -> ComposeResult:
        """What is said of the row, one or two texts, what the marks mean."""
        yield Static(id="head", markup=False)
        with Container(id="texts"):
            yield Static(id="first", markup=False)
            yield Static(id="second", markup=False)
        yield Static(id="foot", markup=False)

    def show_nothing(self, words: str, row: Any = None) -> None:
        """Say why there is no row; `row` is one as its file has it."""
        self.border_title = "Row"
        shown = [Content.assemble(("The first row as it stands in the file\n", _MUTED), raw_text(row))] if row else []
        self._put(Content.styled(words, "$foreground 75%"), shown, Content(""))

    def show_plain(self, item: Item, note: str = "") -> None:
        """The row as its file has it; `note` says what will come of it."""
        self._entitle(item)
        head = Content.styled(note, _MUTED)
        if isinstance(item, Rejected):
            self._put(Content.styled(f"This row cannot be used: {sanitise(item.reason)}.", "$error"),
                      [Content(raw_text(item.row))], Content(""))
        else:
            self._put(head, example_contents(item), Content(""))

    def show_rendered(self, item: Located, rendered: Sequence[Rendered]) -> None:
        """The row as the model will see it."""
        self._entitle(item)
        ascii = bool(getattr(self.app, "ascii_only", False))
        texts = []
        for one in rendered:
            title = f"{one.title}: " if one.title else ""
            texts.append(Content.assemble((f"{title}{tokens_note(one.tokens)}", _MUTED), "\n",
                                          tokens_content(one.tokens, ascii)))
        cut = any(one.tokens.cut_at is not None or one.tokens.dropped for one in rendered)
        self._put(Content(""), texts, legend(cut, ascii))

    def show_previews(self, rendered: Sequence[Rendered]) -> None:
        """Rows of a dataset that is not on this disk, as a worker got them."""
        self.border_title = "First rows"
        ascii = bool(getattr(self.app, "ascii_only", False))
        texts = [Content.assemble((f"{one.title}: {tokens_note(one.tokens)}", _MUTED), "\n",
                                  tokens_content(one.tokens, ascii)) for one in rendered]
        self._put(Content(""), [Content("\n\n").join(texts)], legend(True, ascii))

    def show_packed(self, sequences: Sequence[Tokens]) -> None:
        """Sequences of several rows each, as packing joins them."""
        self.border_title = "Packed sequences (p shows rows)"
        ascii = bool(getattr(self.app, "ascii_only", False))
        texts = [Content.assemble((f"{len(tokens.starts)} rows, {tokens_note(tokens)}", _MUTED), "\n",
                                  tokens_content(tokens, ascii)) for tokens in sequences]
        self._put(Content(""), [Content("\n\n").join(texts)], legend(False, ascii))

    def _entitle(self, item: Item) -> None:
        self.border_title = plain_title(f"{item.source.rsplit('/', 1)[-1]}:{item.line}")

    def _put(self, head: Content, texts: Sequence[Content], foot: Content) -> None:
        self._two = len(texts) > 1
        self.on_resize()
        parts = {"#head": head, "#first": texts[0] if texts else Content(""),
                 "#second": Content("\n\n").join(texts[1:]), "#foot": foot}
        for name, content in parts.items():
            static = self.query_one(name, Static)
            static.display = bool(content)
            static.update(content)
        self.scroll_home(animate=False)

    def on_resize(self) -> None:
        """Side by side where there is room."""
        self.set_class(self._two and self.content_size.width >= _WIDE, "-beside")


def rendered_rows(found: Sequence[RenderedRow], count: int) -> list[list[Rendered]]:
    """The worker's sequences by the row they are of."""
    rows: list[list[Rendered]] = [[] for _ in range(count)]
    for one in found:
        rows[one.row].append(Rendered(one.side or "", Tokens(
            one.tokens, one.trained, one.special, one.truncated_at, dropped=one.dropped, omitted=one.omitted)))
    return rows


def packed_sequences(check: DataCheck | None) -> list[Tokens]:
    """The packed sequences that a check looked at."""
    document = (check.document if check else None) or {}
    return [Tokens(one["tokens"], one["trained"], one["special"], starts=one["starts"])
            for one in document.get("packed_preview", ())]


def previewed_rows(check: DataCheck | None) -> list[Rendered]:
    """The rows that a check looked at first, each called by its place."""
    document = (check.document if check else None) or {}
    return [Rendered(" ".join(filter(None, (f"{sanitise(one['source'])}:{one['line']}", one["side"]))),
                     Tokens(one["tokens"], one["trained"], one["special"], one["truncated_at"], dropped=one["dropped"],
                            omitted=one["omitted"]))
            for one in document.get("preview", ())]


def example_contents(item: Located) -> list[Content]:
    """A row's texts by what they are; two where it compares two answers."""
    example = item.example
    shared = [_turn("prompt", example["prompt"])] if example.get("prompt") else []
    if "messages" in example or "text" in example:
        return [_turn("", example.get("messages", example.get("text")))]
    if "completion" in example:
        title = "completion (good)" if example.get("label") else "completion (bad)"
        return [Content("\n\n").join([*shared, _turn(title, example["completion"])])]
    answers = [_turn(side, example[side]) for side in ("chosen", "rejected") if example.get(side) is not None]
    if not answers:
        others = {name: value for name, value in example.items() if name != "prompt"}
        return [Content("\n\n").join([*shared, *([Content.styled(raw_text(others), _MUTED)] if others else [])])]
    return [Content("\n\n").join([*shared, answers[0]]), *answers[1:]]


def raw_text(row: Any) -> str:
    """A row as JSON over several lines, or as the text it is; safe for a terminal, cut where it is endless."""
    if isinstance(row, str):
        return _short(row)
    return _short(orjson.dumps(row, option=orjson.OPT_INDENT_2, default=str).decode()) if row is not None else ""


def _turn(title: str, value: Any) -> Content:
    heading = [Content.styled(title, _MUTED)] if title else []
    if isinstance(value, str):
        return Content("\n").join([*heading, Content(_short(value))])
    lines = [Content.assemble((turn["role"], _ROLE_STYLES.get(turn["role"], "bold")), "\n", _short(turn["content"]))
             for turn in value]
    return Content("\n").join([*heading, Content("\n\n").join(lines)])


def _short(text: str) -> str:
    shown = sanitise(text[:_MOST_CHARACTERS])
    more = len(text) - _MOST_CHARACTERS
    return f"{shown}\n… and {more:,} more characters" if more > 0 else shown
