"""Watch: one run as it trains."""

from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.message import Message
from textual.widgets import Static

from workbench.engine.errors import RunError
from workbench.engine.runs.control import CommandName, send_command
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.text import sanitise
from workbench.tui.run_reader import Reading, RunReader, Stage, resumable
from workbench.tui.screens.base import WorkbenchScreen
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.screens.picker import Pick, PickerScreen
from workbench.tui.widgets.gauges import Gauges
from workbench.tui.widgets.log_pane import LogPane
from workbench.tui.widgets.metric_panel import MetricPanel, metric_title
from workbench.tui.widgets.peak_memory import PeakMemory
from workbench.tui.widgets.run_header import Notice, RunHeader, StageLine
from workbench.tui.widgets.samples_pane import SamplesPane

_TICK_SECONDS = 0.25
_TICKS_WHEN_ENDED = 4
_PANES = ("samples", "log", "machine")
_NO_RUNS = "No runs yet.\n\nPress 1 to plan one, then ctrl+l to launch it."


class WatchScreen(WorkbenchScreen):
    """One run: header, chart, machine, samples, log. Without a run of its own it shows the newest."""

    class Followed(Message):
        """The run was read; None when it is gone or cannot be read, then `problem` says why."""

        def __init__(self, reader: RunReader, reading: Reading | None, problem: str = "") -> None:
            super().__init__()
            self.reader = reader
            self.reading = reading
            self.problem = problem

    MODE: ClassVar[str] = "watch"
    CSS_PATH = "watch.tcss"
    AUTO_FOCUS = ""
    # Side by side where there is room both ways; else one lower pane at a time.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (14, "-short"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "Stop"),
        Binding("w", "command('save')", "Save"),
        Binding("g", "command('sample')", "Sample"),
        Binding("c", "chat", "Chat with it"),
        Binding("m", "metric", "Metric"),
        Binding("M,shift+m", "pick_metric", "All metrics", key_display="M", show=False),
        Binding("l", "log_scale", "Log scale", show=False),
        Binding("x", "x_axis", "Steps or time", show=False),
        Binding("left_square_bracket", "scrub(-1)", "Earlier samples", key_display="[", show=False),
        Binding("right_square_bracket", "scrub(1)", "Later samples", key_display="]", show=False),
        Binding("less_than_sign", "stage(-1)", "Stage before", key_display="<", show=False),
        Binding("greater_than_sign", "stage(1)", "Stage after", key_display=">", show=False),
        Binding("r", "resume", "Resume"),
        Binding("tab", "next_pane", "Pane"),
    ]

    def __init__(self, run: RunDirectory | None = None) -> None:
        super().__init__()
        self._asked_for = run
        self._reader: RunReader | None = None
        self._busy: RunReader | None = None
        self._composed = False
        self._lost = False
        self._ticks = 0
        self._pending: dict[str, str] = {}
        self._stop_sent = False
        self._offered: tuple[bool | None, ...] = ()
        self._pane = _PANES[0]
        self._stages: tuple[Stage, ...] = ()
        self._generates = True

    def compose_body(self) -> ComposeResult:
        """The empty state, and what is shown of a run."""
        yield Static(_NO_RUNS, id="empty", classes="empty", markup=False)
        with Vertical(id="watch"):
            yield StageLine()
            yield RunHeader()
            yield Notice()
            with Container(id="body"):
                yield MetricPanel(classes="panel")
                with Vertical(id="side"):
                    with Vertical(id="machine", classes="panel") as machine:
                        machine.border_title = "Machine"
                        yield PeakMemory()
                        yield Gauges()
                    yield SamplesPane(classes="panel")
                yield LogPane(classes="panel")

    def on_mount(self) -> None:
        """Take up the run that was asked for, and start looking."""
        self._composed = True
        self.set_class(True, "-empty", f"-{self._pane}")
        if self._asked_for is not None:
            self._follow(self._asked_for)
        self.on_poll()
        self.set_interval(_TICK_SECONDS, self._tick)

    @property
    def _usable(self) -> bool:
        """False before this screen is composed, and while the application is taken down."""
        return self._composed and self.app.is_running

    def show_run(self, run: RunDirectory) -> None:
        """Follow this run from now on; may be called before the screen is shown."""
        self._asked_for = run
        if self._usable and (self._reader is None or self._reader.follower.run != run):
            self._follow(run)

    def on_poll(self) -> None:
        """Fresh machine figures; and the newest run when none was asked for."""
        if not self._usable:
            return
        self.query_one(Gauges).show(self.workbench.gpus, self.workbench.host)
        if self._reader is None and not self._lost and self.workbench.runs:
            self._follow(self.workbench.runs[0].run)

    def on_screen_resume(self) -> None:
        """Look at once; without a run asked for, at the newest."""
        if not self._usable:
            return
        self._lost = False
        runs = self.workbench.runs
        if self._asked_for is None and runs and (self._reader is None or self._reader.follower.run != runs[0].run):
            self._follow(runs[0].run)
        self._tick()

    def _follow(self, run: RunDirectory) -> None:
        self._reader = RunReader(run)
        self._lost = False
        self._pending.clear()
        self._stop_sent = False
        self.query_one(SamplesPane).clear()
        self.query_one(MetricPanel).forget()
        self._tick()

    def _tick(self) -> None:
        self._ticks += 1
        reader = self._reader
        if reader is None or reader is self._busy or self not in self.app.screen_stack:
            return
        if reader.follower.ended and self._ticks % _TICKS_WHEN_ENDED:
            return
        self._busy = reader
        self._read(reader)

    @work(thread=True, exclusive=True, group="follow")
    def _read(self, reader: RunReader) -> None:
        try:
            message = self.Followed(reader, reader.read())
        except FileNotFoundError:
            message = self.Followed(reader, None, f"{reader.follower.run.name} was deleted.")
        except OSError as error:
            message = self.Followed(reader, None, f"{reader.follower.run.name} cannot be read: {error.strerror}.")
        self.post_message(message)

    @on(Followed)
    def _show(self, message: Followed) -> None:
        reader, reading = message.reader, message.reading
        if reader is not self._reader or not self._usable:
            return
        self._busy = None
        if reading is None:
            self._lose(message.problem)
            return
        follower = reader.follower
        self.set_class(False, "-empty")
        # The supervisor says so too, within a second.
        phase = "stopping" if self._stop_sent and reading.supervisor_phase == "running" else reading.supervisor_phase
        predicted = reading.peaks.estimated_probe or reading.peaks.estimated_peak
        self._stages = reading.stages
        self.query_one(StageLine).show(follower.run, reading.stages)
        self.query_one(RunHeader).show(follower, predicted, phase)
        self.query_one(PeakMemory).show(follower.state, reading.peaks)
        self._generates = reading.objective.generates
        self.query_one(Notice).show(follower, reading.has_model and self._generates)
        if reading.changed:
            self.query_one(MetricPanel).show(follower.state, follower.ended, reading.objective.charts)
            self.query_one(SamplesPane).show(follower.samples, reading.objective.generates)
        self.query_one(LogPane).show(reading.log, follower.state.alerts)
        for command in [id for id in self._pending if id in follower.state.acknowledged]:
            self.notify(sanitise(follower.state.acknowledged[command]), title=self._pending.pop(command), markup=False)
        self._offer_keys()

    def _lose(self, problem: str) -> None:
        self._reader = self._asked_for = None
        self._lost = True
        self.query_one("#empty", Static).update(f"{problem}\n\nPress 3 for the list of runs.")
        self.set_class(True, "-empty")
        self._offer_keys()

    def _offer_keys(self) -> None:
        # Refreshing builds the footer anew: only when another set of keys makes sense.
        offered = tuple(self.check_action(action, ()) for action in ("chat", "stop", "resume"))
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys are offered only where they do something: commands while somebody is there to obey them."""
        if action in ("stop", "command"):
            return self._reader is not None and not self._reader.follower.ended
        if action == "resume":
            return resumable(self._stages)
        if action == "chat" and not self._generates:
            return False
        if action in ("chat", "metric", "pick_metric", "log_scale", "x_axis", "scrub", "next_pane"):
            return self._reader is not None
        return True

    @work
    async def action_stop(self) -> None:
        """Ask, then stop the run."""
        reader = self._reader
        if reader is None:
            return
        detail = "It ends after its present step, and what it has learned so far is saved."
        if await self.app.push_screen_wait(ConfirmScreen(f"Stop {reader.follower.run.name}?", detail, "Stop it",
                                                         "Let it run")):
            self._send(reader, "stop")

    def action_command(self, name: CommandName) -> None:
        """Send a command; its answer comes as an event."""
        if self._reader is not None:
            self._send(self._reader, name)

    def _send(self, reader: RunReader, name: CommandName) -> None:
        try:
            command = send_command(reader.follower.run, name)
        except RunError as error:
            self.notify(error.hint or "", title=error.message, severity="error", markup=False)
        else:
            self._pending[command.id] = name
            self._stop_sent |= name == "stop"

    def action_chat(self) -> None:
        """Talk to what this run has trained."""
        if self._reader is not None:
            self.workbench.chat_with(self._reader.follower.run.id)

    def action_stage(self, by: int) -> None:
        """Watch the stage before or after this one, in the same pipeline."""
        runs = [stage.run for stage in self._stages]
        if self._reader is not None and self._reader.follower.run in runs:
            place = runs.index(self._reader.follower.run) + by
            if 0 <= place < len(runs):
                self.show_run(runs[place])

    def action_resume(self) -> None:
        """Go on with the pipeline at the stage that did not finish."""
        if self._reader is not None:
            self.workbench.resume_pipeline(self._reader.follower.run)

    def action_metric(self) -> None:
        """Chart the next metric."""
        self.query_one(MetricPanel).next_metric()

    def action_pick_metric(self) -> None:
        """Choose from all metrics, the run's own first."""
        panel = self.query_one(MetricPanel)

        def take(metric: str | None) -> None:
            if metric is not None:
                panel.choose(metric)

        self.app.push_screen(PickerScreen("Chart a metric", [Pick(name, metric_title(name)) for name in panel.metrics]),
                             take)

    def action_log_scale(self) -> None:
        """Switch the chart between linear and logarithmic."""
        self.query_one(MetricPanel).toggle_log_scale()

    def action_x_axis(self) -> None:
        """Switch the chart between steps and time."""
        self.query_one(MetricPanel).toggle_x()

    def action_scrub(self, by: int) -> None:
        """Show the samples of another step."""
        self.query_one(SamplesPane).action_scrub(by)

    def action_next_pane(self) -> None:
        """Where panes share their place, show the next; elsewhere move the focus."""
        if self.has_class("-wide") and self.has_class("-tall"):
            self.focus_next()
            return
        self.remove_class(f"-{self._pane}")
        self._pane = _PANES[(_PANES.index(self._pane) + 1) % len(_PANES)]
        self.add_class(f"-{self._pane}")
