"""The post-mortem of a run: why it ended, what shows it, and how it can go on."""

import textwrap
from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from workbench.engine.figures import age
from workbench.engine.recipe_diff import SettingChange, value_words
from workbench.engine.runs.state import Attempt
from workbench.engine.text import one_line, sanitise
from workbench.tui.format import plain_title
from workbench.tui.run_postmortem import GoodCheckpoint, PostMortem, cause_words
from workbench.tui.widgets.lines import wrapped

_MUTED = "$foreground 55%"
_INDENT = 12
_ROOMY = 30
"""Lines of terminal from which there is room for blank lines and more of the log."""
_FEW_LINES = 3
_MORE_LINES = 5
_LINES_WHEN_SHORT = 10
"""At 80×24 so many lines leave room for the curves."""


class PostMortemPane(VerticalScroll):
    """Cause, evidence, last good checkpoint, what went before, and the change that would mend it."""

    DEFAULT_CSS = """
    PostMortemPane { height: auto; scrollbar-size-vertical: 1; scrollbar-color: $border; }
    PostMortemPane Static { height: auto; }
    """

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._shown: PostMortem | None = None
        self._drawn: Content | None = None

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(markup=False, expand=True)

    def show(self, postmortem: PostMortem | None) -> None:
        """Show this; nothing for None."""
        self._shown = postmortem
        self._draw()

    def on_resize(self) -> None:
        """Other lines for another width."""
        self._draw()

    def _draw(self) -> None:
        shown, width = self._shown, self.scrollable_content_region.width
        if shown is None or width <= 0:
            return
        ascii_only = bool(getattr(self.app, "ascii_only", False))
        fresh = Content("\n").join(postmortem_lines(shown, width, self.app.size.height >= _ROOMY, ascii_only))
        if self._drawn is not None and fresh.is_same(self._drawn):
            return
        self._drawn = fresh
        self.border_title = plain_title(f"Why it {shown.title}")
        self.border_subtitle = plain_title(f" {'-' if ascii_only else '·'} ".join(ways_on(shown)))
        self.query_one(Static).update(fresh)


def ways_on(postmortem: PostMortem) -> list[str]:
    """The keys, and what each does."""
    if postmortem.worker_lives:
        return ["r takes it over", "s ends it", "f hides this"]
    if postmortem.changes:
        return ["a applies and resumes", "r resumes unchanged", "o opens it in Plan"]
    return ["r resumes it", "o opens it in Plan", "f hides this"]


def postmortem_lines(postmortem: PostMortem, width: int, roomy: bool, ascii: bool = False) -> list[Content]:
    """All of it as lines of `width` cells."""
    cause = wrapped("", sanitise(postmortem.explanation), width, "", "bold $error")
    gap = [Content("")] if roomy else []
    after = [] if postmortem.worker_lives else _labelled("Checkpoint", [checkpoint_words(postmortem.checkpoint)])
    after += _labelled("Before", [one_line(attempt_words(attempt), width - _INDENT)
                                  for attempt in postmortem.attempts[-(3 if roomy else 1):]])
    after += gap if after or postmortem.evidence else []
    if postmortem.suggestion:
        after += wrapped(f"{'What to do':<{_INDENT}}", sanitise(postmortem.suggestion), width, "$primary", "")
    after += _labelled("Change", [line.truncate(width - _INDENT, ellipsis=not ascii)
                                  for line in diff_lines(postmortem.changes, ascii)])
    room = _MORE_LINES if roomy else min(_FEW_LINES, max(_LINES_WHEN_SHORT - len(cause) - len(after), 1))
    evidence = [Content.styled(line, "$foreground 75%")
                for line in last_lines(postmortem.evidence, width - _INDENT, room)]
    return cause + gap + _labelled("Log" if postmortem.only_log else "Evidence", evidence) + after


def last_lines(texts: Sequence[str], width: int, most: int) -> list[str]:
    """The last of some lines, wrapped, whole ones as long as there is room: at most `most` lines of `width` cells."""
    kept: list[str] = []
    for text in reversed(texts):
        parts = textwrap.wrap(one_line(text, width * most), max(width, 10))
        if kept and len(kept) + len(parts) > most:
            break
        if len(parts) > most:
            parts[most - 1] = one_line(" ".join(parts[most - 1:]), max(width, 10))  # says that there is more
        kept = parts[:most] + kept
    return kept


def _labelled(label: str, texts: Sequence[Content | str]) -> list[Content]:
    return [Content.assemble((f"{label if index == 0 else '':<{_INDENT}}", _MUTED), text)
            for index, text in enumerate(texts)]


def checkpoint_words(checkpoint: GoodCheckpoint | None) -> str:
    """The last good checkpoint: its step, and when it was written."""
    if checkpoint is None:
        return "none: it would begin anew"
    return f"step {checkpoint.step}, written {age(checkpoint.written)}, verified"


def attempt_words(attempt: Attempt) -> str:
    """A time that the run went on, in words."""
    changed = "".join(f", {setting.rpartition('.')[2]} {value_words(value)}"
                      for setting, value in attempt.changes.items())
    where = f"at step {attempt.step}" if attempt.step else "from its beginning"
    if attempt.cause is None:
        return f"resumed {where}{changed}"
    times = f" ({attempt.number} of {attempt.of})" if attempt.number and attempt.of else ""
    return f"restarted {where} after: {cause_words(attempt.cause)}{times}{changed}"


def diff_lines(changes: Sequence[SettingChange], ascii: bool = False) -> list[Content]:
    """A recipe's changes as a diff, a setting a line, the values in columns."""
    names = max((len(change.setting) for change in changes), default=0)
    olds = max((len(value_words(change.old)) for change in changes), default=0)
    minus = "-" if ascii else "−"
    return [Content.assemble(f"{change.setting:<{names}}  ", (f"{minus} {value_words(change.old):<{olds}}", "$error"),
                             "  ", (f"+ {value_words(change.new)}", "$success")) for change in changes]
