"""The keys of Watch: what is done to the run, and what is shown of it."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from workbench.engine.runs.control import Command, CommandName
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.orders import Answer
from workbench.engine.runs.state import AT_REST
from workbench.tui.run_reader import Reading, RunReader, resumable
from workbench.tui.screens.picker import Pick, PickerScreen
from workbench.tui.screens.run_actions import RunActions, Subject
from workbench.tui.widgets.metric_panel import MetricPanel, metric_title
from workbench.tui.widgets.samples_pane import SamplesPane

PANES = ("samples", "log", "machine")
_ACTIONS = ("chat", "stop", "pause", "resume", "apply", "why", "open_in_plan", "command")


class WatchKeys(RunActions):
    """Watch without what it reads and draws; subclasses follow a run and set `reader` and `reading`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "apply", "Apply"),
        Binding("r", "resume", "Resume"),
        Binding("s", "stop", "Stop"),
        Binding("p", "pause", "Pause"),
        Binding("f", "why", "Why"),
        Binding("o", "open_in_plan", "Open in Plan", show=False),
        Binding("w", "command('save')", "Save"),
        Binding("g", "command('sample')", "Sample"),
        Binding("c", "chat", "Chat"),
        Binding("m", "metric", "Metric"),
        Binding("M,shift+m", "pick_metric", "All metrics", key_display="M", show=False),
        Binding("l", "log_scale", "Log scale", show=False),
        Binding("x", "x_axis", "Steps or time", show=False),
        Binding("left_square_bracket", "scrub(-1)", "Earlier samples", key_display="[", show=False),
        Binding("right_square_bracket", "scrub(1)", "Later samples", key_display="]", show=False),
        Binding("less_than_sign", "stage(-1)", "Stage before", key_display="<", show=False),
        Binding("greater_than_sign", "stage(1)", "Stage after", key_display=">", show=False),
        Binding("tab", "next_pane", "Pane"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.reader: RunReader | None = None
        """Who reads the run that is shown; None while none is."""
        self.reading: Reading | None = None
        """What it read last."""
        self.pending: dict[str, str] = {}
        """The ids of commands that were not answered yet, and their names."""
        self.asked: CommandName | None = None
        """What the run was asked to come to rest by: its supervisor says so too, within a second."""
        self._offered: tuple[bool | None, ...] = ()
        self._pane = PANES[0]

    @property
    def shown_run(self) -> RunDirectory | None:
        """The run that is shown."""
        return self.reader.follower.run if self.reader is not None else None

    @property
    def subject(self) -> Subject | None:
        """The run that is shown, once something is known of it."""
        if self.reader is None or self.reading is None:
            return None
        follower = self.reader.follower
        return Subject(follower.run, follower.name, follower.state.step, self.reading.worker_lives)

    @property
    def _has_saved(self) -> bool:
        """Whether the run has weights to talk to."""
        return self.reader is not None and self.reading is not None and bool(
            self.reading.has_model or self.reader.follower.state.checkpoints)

    def offer_keys(self) -> None:
        """Other keys at the foot, where others make sense now."""
        # Refreshing builds the footer anew: only when another set of keys makes sense.
        offered = tuple(self.check_action(action, ()) for action in _ACTIONS)
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys are offered only where they do something: commands while somebody is there to obey them."""
        subject, reading = self.subject, self.reading
        if action in ("stop", "pause", "command", "resume", "apply", "why", "open_in_plan"):
            if subject is None or reading is None:
                return False
            why = reading.postmortem
            return {"stop": subject.may_stop, "pause": subject.may_pause,
                    "command": subject.state in ("running", "stalled"),
                    "resume": subject.may_resume or resumable(reading.stages), "why": why is not None,
                    "apply": why is not None and bool(why.changes) and subject.may_resume,
                    "open_in_plan": subject.state in AT_REST}[action]
        if action == "chat" and reading is not None and not (reading.objective.generates and self._has_saved):
            return False
        if action in ("chat", "metric", "pick_metric", "log_scale", "x_axis", "scrub", "next_pane"):
            return self.reader is not None
        return True

    def action_stop(self) -> None:
        """Ask, then stop the run."""
        if self.subject is not None:
            self.stop_runs([self.subject])

    def action_pause(self) -> None:
        """Pause the run: it can go on later where it was."""
        if self.subject is not None:
            self.pause_runs([self.subject])

    def action_command(self, name: CommandName) -> None:
        """Send a command; its answer comes as an event."""
        if self.subject is not None:
            self.send(self.subject.run, name)

    def send(self, run: RunDirectory, name: CommandName) -> Command | None:
        """Send a command, and remember to tell its answer."""
        command = super().send(run, name)
        if command is not None:
            self.pending[command.id] = name
        return command

    def ordered(self, run: RunDirectory, name: CommandName, answer: Answer) -> None:
        """Say what comes of an order, and show it before the supervisor does."""
        super().ordered(run, name, answer)
        if run == self.shown_run:
            self.asked = name

    def action_resume(self) -> None:
        """Go on with the run where it was; of a pipeline, at the stage that did not finish."""
        if self.subject is not None:
            self.resume_runs([self.subject])

    def action_apply(self) -> None:
        """Change the recipe as the post-mortem suggests, and go on with the run."""
        if self.subject is not None:
            self.resume_runs([self.subject], apply=True)

    def action_why(self) -> None:
        """Show the post-mortem, or hide it for what else there is."""
        self.toggle_class("-postmortem")

    def action_open_in_plan(self) -> None:
        """Open the run's recipe in Plan, as the post-mortem would change it."""
        if self.subject is not None and self.reading is not None:
            why = self.reading.postmortem
            changes = {change.setting: change.new for change in why.changes} if why else {}
            self.workbench.open_in_plan(self.subject.run, changes)

    def action_chat(self) -> None:
        """Talk to what this run has trained."""
        if self.subject is not None:
            self.workbench.chat_with(self.subject.run.id)

    def action_stage(self, by: int) -> None:
        """Watch the stage before or after this one, in the same pipeline."""
        if self.subject is None or self.reading is None:
            return
        runs = [stage.run for stage in self.reading.stages]
        if self.subject.run in runs:
            place = runs.index(self.subject.run) + by
            if 0 <= place < len(runs):
                self.workbench.watch_run(runs[place])

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
        if self.has_class("-postmortem") and not self.has_class("-tall"):
            self.remove_class("-postmortem")
            return
        self.remove_class(f"-{self._pane}")
        self._pane = PANES[(PANES.index(self._pane) + 1) % len(PANES)]
        self.add_class(f"-{self._pane}")
