"""Watch: one run as it trains."""

from dataclasses import replace
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.message import Message
from textual.widgets import Static

from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.store import RunFollower
from workbench.engine.text import sanitise
from workbench.tui.run_reader import Reading, RunReader
from workbench.tui.screens.watch_keys import PANES, WatchKeys
from workbench.tui.widgets.gauges import Gauges
from workbench.tui.widgets.log_pane import LogPane
from workbench.tui.widgets.metric_panel import MetricPanel
from workbench.tui.widgets.peak_memory import PeakMemory
from workbench.tui.widgets.postmortem import PostMortemPane
from workbench.tui.widgets.run_header import Notice, RunHeader, StageLine, state_words
from workbench.tui.widgets.samples_pane import SamplesPane

_TICK_SECONDS = 0.25
_TICKS_WHEN_ENDED = 4
_NO_RUNS = "No runs yet.\n\nPress 1 to plan one, then ctrl+l to launch it."


class WatchScreen(WatchKeys):
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

    def __init__(self, run: RunDirectory | None = None) -> None:
        super().__init__()
        self._asked_for = run
        self._busy: RunReader | None = None
        self._composed = False
        self._lost = False
        self._ticks = 0

    def compose_body(self) -> ComposeResult:
        """The empty state, and what is shown of a run."""
        yield Static(_NO_RUNS, id="empty", classes="empty", markup=False)
        with Vertical(id="watch"):
            yield StageLine()
            yield RunHeader()
            yield Notice()
            yield PostMortemPane(classes="panel")
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
        self.set_class(True, "-empty", f"-{PANES[0]}")
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
        if self._usable and (self.reader is None or self.reader.follower.run != run):
            self._follow(run)

    def on_poll(self) -> None:
        """Fresh machine figures; and the newest run when none was asked for."""
        if not self._usable:
            return
        self.query_one(Gauges).show(self.workbench.gpus, self.workbench.host)
        if self.reader is None and not self._lost and self.workbench.runs:
            self._follow(self.workbench.runs[0].run)

    def on_screen_resume(self) -> None:
        """Look at once; without a run asked for, at the newest."""
        if not self._usable:
            return
        self._lost = False
        runs = self.workbench.runs
        if self._asked_for is None and runs and (self.reader is None or self.reader.follower.run != runs[0].run):
            self._follow(runs[0].run)
        self._tick()

    def _follow(self, run: RunDirectory) -> None:
        self.reader = RunReader(run)
        self._lost = False
        self.pending.clear()
        self.asked = self.reading = None
        self.set_class(False, "-postmortem")
        self.query_one(SamplesPane).clear()
        self.query_one(MetricPanel).forget()
        self._tick()

    def _tick(self) -> None:
        self._ticks += 1
        reader = self.reader
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
        if reader is not self.reader or not self._usable:
            return
        self._busy = None
        if reading is None:
            self._lose(message.problem)
            return
        follower = reader.follower
        self.set_class(False, "-empty")
        self._take_in(follower, reading)
        self.query_one(StageLine).show(follower.run, reading.stages)
        phase = reading.supervisor_phase
        if self.asked is not None and phase == "running":
            phase = {"stop": "stopping", "pause": "pausing"}.get(self.asked, phase)
        predicted = reading.peaks.estimated_probe or reading.peaks.estimated_peak
        words = state_words(follower, replace(reading, supervisor_phase=phase))
        self.query_one(RunHeader).show(follower, predicted, words)
        self.query_one(PeakMemory).show(follower.state, reading.peaks)
        self.query_one(PostMortemPane).show(reading.postmortem)
        self.query_one(Notice).show(follower, reading, told=self.has_class("-postmortem"))
        if reading.changed:
            self.query_one(MetricPanel).show(follower.state, follower.ended, reading.objective.charts)
            self.query_one(SamplesPane).show(follower.samples, reading.objective.generates)
        self.query_one(LogPane).show(reading.log, follower.state.alerts)
        for command in [id for id in self.pending if id in follower.state.acknowledged]:
            self.notify(sanitise(follower.state.acknowledged[command]), title=self.pending.pop(command), markup=False)
        self.offer_keys()

    def _take_in(self, follower: RunFollower, reading: Reading) -> None:
        """What was read; a run opens on why it failed, when it does."""
        before, self.reading = self.reading, reading
        if follower.ended:
            self.asked = None
        if (reading.postmortem is None) != (before is None or before.postmortem is None):
            self.set_class(reading.postmortem is not None, "-postmortem")

    def _lose(self, problem: str) -> None:
        self.reader = self.reading = self._asked_for = None
        self._lost = True
        self.query_one("#empty", Static).update(f"{problem}\n\nPress 3 for the list of runs.")
        self.set_class(True, "-empty")
        self.offer_keys()
