"""The application: a mode for each screen, what the screens share, and nothing else."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.notifications import SeverityLevel

from workbench.engine.errors import WorkbenchError
from workbench.engine.hardware.gpus import Gpu, list_gpus
from workbench.engine.hardware.host import HostSnapshot, host_snapshot
from workbench.engine.inspection import Inspector
from workbench.engine.planning import Plan, make_plan
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.queue_rows import QueueRow, queue_rows
from workbench.engine.runs.store import RunSummary, list_runs
from workbench.engine.text import sanitise
from workbench.tui.data_checks import DataChecks
from workbench.tui.format import machine_line
from workbench.tui.run_news import RunNews
from workbench.tui.screens.base import WorkbenchScreen
from workbench.tui.screens.chat import ChatScreen
from workbench.tui.screens.data import DataScreen
from workbench.tui.screens.help import HelpScreen
from workbench.tui.screens.plan import PlanScreen
from workbench.tui.screens.runs import RunsScreen
from workbench.tui.screens.watch import WatchScreen
from workbench.tui.theme import DARK
from workbench.tui.widgets.plan_form import with_settings
from workbench.tui.widgets.span_updates import SpanApp
from workbench.tui.widgets.top_bar import TABS, TopBar

POLL_SECONDS = 1.0

Hardware = tuple[list[Gpu], HostSnapshot]


def read_hardware() -> Hardware:
    """The GPUs and the host, now."""
    return list_gpus(), host_snapshot()


class WorkbenchApp(SpanApp, inherit_bindings=False):
    """The terminal workbench. It polls runs and hardware once for all screens; screens read `runs`, `queue`, `gpus`,
    `host`.

    `hardware` is injectable: tests and screenshots bring their own machine.
    """

    TITLE = "workbench"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"go('{mode}')", title, show=False) for key, mode, title in TABS),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        # Of Textual's own keys this one alone: its ctrl+q quits, and Plan queues with it.
        Binding("ctrl+c", "help_quit", show=False, system=True),
    ]

    def __init__(self, start: str = "plan", recipe: Path | None = None, run: RunDirectory | None = None,
                 chat: str | None = None, hardware: Callable[[], Hardware] = read_hardware,
                 ascii_only: bool = False) -> None:
        super().__init__()
        self.ascii_only = ascii_only
        self.runs: list[RunSummary] = []
        self.queue: list[QueueRow] = []
        self.gpus: list[Gpu] = []
        self.host: HostSnapshot | None = None
        self._start = start
        self._news = RunNews()
        self._read_hardware = hardware
        self.watch_screen = WatchScreen(run)
        self.chat_screen = ChatScreen()
        self.plan_screen = PlanScreen(recipe)
        self.checks = DataChecks(self, Inspector(), self._data_checked)
        if chat is not None:
            self.chat_screen.set_target(chat)
        self._screens: tuple[WorkbenchScreen, ...] = (
            self.plan_screen, DataScreen(), RunsScreen(), self.watch_screen, self.chat_screen)
        for screen in self._screens:
            self.add_mode(screen.MODE, partial(_same, screen))

    def on_mount(self) -> None:
        """Take up the theme, go to the first screen, start polling."""
        self.register_theme(DARK)
        self.theme = DARK.name
        self.switch_mode(self._start)
        self._poll()
        self.set_interval(POLL_SECONDS, self._poll)

    def look_now(self) -> None:
        """Read runs and hardware at once: something was changed."""
        self._poll()

    @work(thread=True, exclusive=True, group="poll")
    def _poll(self) -> None:
        gpus, host = self._read_hardware()
        self.call_from_thread(self._take_in, list_runs(), queue_rows(), gpus, host)

    def _take_in(self, runs: list[RunSummary], queue: list[QueueRow], gpus: list[Gpu], host: HostSnapshot) -> None:
        if not self.is_running:
            return
        self.runs, self.queue, self.gpus, self.host = runs, queue, gpus, host
        for news in self._news.since_last(runs):
            if self.watch_screen not in self.screen_stack or self.watch_screen.shown_run != news.run:
                self.notify(news.hint, title=news.title, severity=news.severity, markup=False)
        for bar in self.screen.query(TopBar):
            bar.machine = machine_line(gpus, host)
            bar.running = sum(run.state in ("running", "stalled") for run in runs)
        if isinstance(self.screen, WorkbenchScreen):
            self.screen.on_poll()

    def notify(self, message: str, *, title: str = "", severity: SeverityLevel = "information",
               timeout: float | None = None, markup: bool = False) -> None:
        """Tell something in a corner: as text, whatever it was made of."""
        super().notify(sanitise(message), title=sanitise(title), severity=severity, timeout=timeout, markup=markup)

    def action_go(self, mode: str) -> None:
        """Show a screen."""
        self.switch_mode(mode)

    def action_help(self) -> None:
        """The keys of the present screen."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def watch_run(self, run: RunDirectory) -> None:
        """Show a run in Watch."""
        self.watch_screen.show_run(run)
        self.switch_mode("watch")

    def chat_with(self, target: str) -> None:
        """Open Chat with a model, folder, run or checkpoint."""
        self.chat_screen.set_target(target)
        self.switch_mode("chat")

    def plan_for(self, recipe: Recipe, base_dir: Path) -> Plan:
        """What a recipe would do on this machine; `base_dir` is where its relative paths start. Blocks."""
        return make_plan(recipe, base_dir, self.gpus, self.host or host_snapshot())

    def open_in_plan(self, run: RunDirectory, changes: Mapping[str, Any]) -> None:
        """Show a run's recipe in Plan, changed by dotted settings."""
        try:
            recipe = with_settings(load_recipe(run.recipe), changes)
        except WorkbenchError as error:
            self.notify(error.hint or "", title=error.message, severity="error", markup=False)
        else:
            self.plan_screen.take_over(recipe, run)
            self.switch_mode("plan")

    @property
    def planned(self) -> tuple[Recipe, Path]:
        """The recipe in Plan, as it last held, and where its relative paths start."""
        return self.plan_screen.planned

    def change_plan(self, settings: Mapping[str, Any]) -> None:
        """Change the recipe in Plan: dotted settings and their values."""
        self.plan_screen.change(settings)

    def _data_checked(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, WorkbenchScreen):
                screen.on_data_check()

    def on_unmount(self) -> None:
        """End the worker that looks at data."""
        self.checks.close()


def _same(screen: WorkbenchScreen) -> WorkbenchScreen:
    return screen
