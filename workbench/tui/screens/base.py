"""What every screen shares: the bar at the top, the keys at the bottom."""

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer

from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp


class WorkbenchScreen(Screen[None]):
    """A screen of the workbench; subclasses give `MODE` and `compose_body`."""

    MODE: ClassVar[str]

    def compose(self) -> ComposeResult:
        """Bar, body, keys."""
        yield TopBar(self.MODE)
        yield from self.compose_body()
        yield Footer(show_command_palette=False)

    def compose_body(self) -> ComposeResult:
        """The widgets between the two lines."""
        raise NotImplementedError

    def on_poll(self) -> None:
        """The application has fresh runs and hardware figures; called every second on the screen that is shown."""

    def on_data_check(self) -> None:
        """How the check of some recipe's data stands has changed; called on the screens that are shown."""

    @property
    def workbench(self) -> "WorkbenchApp":
        """The application, by its own type."""
        return cast("WorkbenchApp", self.app)
