"""The line at the top of every screen: where you are, what runs, what the machine is."""

from textual.app import RenderResult
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

TABS = (("1", "plan", "Plan"), ("2", "data", "Data"), ("3", "runs", "Runs"), ("4", "watch", "Watch"),
        ("5", "chat", "Chat"))


class TopBar(Widget):
    """Tabs on the left, the machine on the right; a click on a tab goes there."""

    DEFAULT_CSS = """
    TopBar { height: 1; background: $panel; color: $foreground 60%; padding: 0 1; }
    """

    machine: reactive[str] = reactive("")
    running: reactive[int] = reactive(0)

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current

    def render(self) -> RenderResult:
        """The one line, cut to the width there is."""
        parts: list[Content] = []
        for key, mode, title in TABS:
            style = "bold $primary" if mode == self._current else ""
            parts.append(Content.from_markup(f"[@click=app.go('{mode}')]{key} {title}[/]").stylize(style))
            parts.append(Content("  "))
        left = Content.assemble(*parts)
        right = self._status()
        gap = self.size.width - left.cell_length - right.cell_length
        return left if gap < 1 else Content.assemble(left, " " * gap, right)

    def _status(self) -> Content:
        running = Content.styled(f"● {self.running} running", "$success") if self.running else Content("")
        return Content.assemble(running, "  " if self.running and self.machine else "", self.machine)
