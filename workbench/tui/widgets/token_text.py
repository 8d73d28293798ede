"""A row's tokens as the model sees them: which are learned, which are special, where the row was cut."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

_READ = "$foreground 60%"
_TRAINED = "$primary underline"
_SPECIAL = "$foreground 60% reverse"
_TRAINED_SPECIAL = "$primary underline reverse"
_UNSEEN = "$error 70% strike"
_MUTED = "$foreground 50%"


@dataclass(frozen=True, slots=True)
class Tokens:
    """One sequence: its tokens' texts, and for each whether it is learned and whether it is a special one.

    The model sees nothing from `cut_at` on. `starts` are the places where packed rows begin. `dropped`: the trainer
    leaves the row out. `omitted` tokens follow that are not listed.
    """

    texts: Sequence[str]
    trained: Sequence[bool]
    special: Sequence[bool]
    cut_at: int | None = None
    starts: Sequence[int] = ()
    dropped: bool = False
    omitted: int = 0


def tokens_content(tokens: Tokens, ascii: bool) -> Content:
    """The text with its tokens marked: underlined what is learned, reversed what is special, struck what is cut off.

    None of the marks needs a colour.
    """
    parts: list[Content | tuple[str, str]] = []
    text, style = "", ""
    boundaries = frozenset(tokens.starts) - {0}
    for place, (token, trained, special) in enumerate(zip(tokens.texts, tokens.trained, tokens.special, strict=True)):
        if place == tokens.cut_at:
            parts += [(text, style), _rule(f"cut at max_length = {tokens.cut_at:,}", ascii)]
            text = ""
        if place in boundaries:
            parts += [(text, style), _rule("the next packed row", ascii)]
            text = ""
        kind = _style(trained, special, tokens.cut_at is not None and place >= tokens.cut_at)
        if kind != style:
            parts.append((text, style))
            text, style = "", kind
        text += _visible(token, ascii)
    parts.append((text, style))
    if tokens.omitted:
        parts.append((f"\n{'...' if ascii else '…'} and {tokens.omitted:,} more tokens", _MUTED))
    return Content.assemble(*(part for part in parts if isinstance(part, Content) or part[0]))


def tokens_note(tokens: Tokens) -> str:
    """How many tokens there are and how many of them are learned, in a few words."""
    count = len(tokens.texts) + tokens.omitted
    if tokens.dropped:
        return f"{count:,} tokens: the trainer leaves this row out, nothing in it is learned"
    lost = f", {count - tokens.cut_at:,} cut off" if tokens.cut_at is not None else ""
    # What is not listed cannot be counted.
    learned = f", {sum(tokens.trained):,} learned" if not tokens.omitted else ""
    return f"{count:,} token{'' if count == 1 else 's'}{learned}{lost}"


def legend(cut: bool, ascii: bool) -> Content:
    """What the marks mean; `cut`: something is cut off."""
    dot = Content.styled(" - " if ascii else " · ", _MUTED)
    words = [("learned", _TRAINED), ("read only", _READ), ("special", _SPECIAL), ("cut off", _UNSEEN)]
    return dot.join(Content.styled(word, style) for word, style in (words if cut else words[:-1]))


def _style(trained: bool, special: bool, unseen: bool) -> str:
    if unseen:
        return _UNSEEN
    if special:
        return _TRAINED_SPECIAL if trained else _SPECIAL
    return _TRAINED if trained else _READ


def _visible(token: str, ascii: bool) -> str:
    token = token.replace("\t", r"\t" if ascii else "→\t")
    if ascii:
        token = "".join(char if " " <= char <= "~" or char == "\n" else "?" for char in token)
    return token.replace("\n", "\\n\n" if ascii else "↵\n")


def _rule(words: str, ascii: bool) -> Content:
    dash = "-" if ascii else "─"
    return Content.styled(f"\n{dash * 3} {words} {dash * 3}\n", "$warning")
