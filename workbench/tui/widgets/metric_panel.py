"""One metric of a run as a chart: training and evaluation together, by step or by time."""

from collections.abc import Iterable, Mapping

from textual.app import ComposeResult
from textual.containers import Vertical

from workbench.engine.runs.series import MetricSeries
from workbench.engine.runs.state import RunState
from workbench.tui.theme import SERIES_COLORS
from workbench.tui.widgets.line_chart import LineChart, Series

# The order in which a key press goes through them; others follow by name.
_FIRST = ("loss", "grad_norm", "learning_rate", "mean_token_accuracy", "entropy", "tokens_per_second")
# How long an evaluation took and how much was seen so far are no curves to learn from.
_LEFT_OUT = frozenset({"runtime", "samples_per_second", "steps_per_second", "num_tokens", "num_input_tokens_seen"})
_WORDS = {"loss": "Loss", "grad_norm": "Gradient norm", "learning_rate": "Learning rate", "entropy": "Entropy",
          "mean_token_accuracy": "Token accuracy", "tokens_per_second": "Tokens per second",
          "peak_allocated": "Peak GPU memory allocated, bytes", "peak_reserved": "Peak GPU memory reserved, bytes",
          "resident": "Memory of the worker, bytes"}


class MetricPanel(Vertical):
    """A chart of the chosen metric. It copies what it draws: the run's own series may grow meanwhile."""

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._state: RunState | None = None
        self._ended = False
        self._metric = "loss"
        self._by_time = False

    def compose(self) -> ComposeResult:
        """The chart."""
        yield LineChart(empty="No points yet.")

    def on_mount(self) -> None:
        """Draw as the terminal can."""
        self._name_keys()
        self.query_one(LineChart).ascii = bool(getattr(self.app, "ascii_only", False))

    @property
    def metric(self) -> str:
        """The part of the metric's name after the slash."""
        return self._metric

    def show(self, state: RunState, ended: bool) -> None:
        """Draw a run's present state."""
        self._state, self._ended = state, ended
        self._draw()

    def next_metric(self) -> None:
        """Go to the next metric there is."""
        groups = list(metric_groups(self._state.metrics)) if self._state else []
        if groups:
            index = groups.index(self._metric) if self._metric in groups else -1
            self._metric = groups[(index + 1) % len(groups)]
            self._draw()

    def toggle_log_scale(self) -> None:
        """Switch the y axis between linear and logarithmic."""
        chart = self.query_one(LineChart)
        chart.log_scale = not chart.log_scale
        self._name_keys()

    def toggle_x(self) -> None:
        """Switch the x axis between steps and time."""
        self._by_time = not self._by_time
        self._name_keys()
        self._draw()

    def _name_keys(self) -> None:
        scale = "linear" if self.query_one(LineChart).log_scale else "log scale"
        self.border_subtitle = f"m metric · l {scale} · x {'steps' if self._by_time else 'time'}"

    def _draw(self) -> None:
        state = self._state
        if state is None:
            return
        names = metric_groups(state.metrics).get(self._metric, ())
        curves = [_curve(name, state.metrics[name], self._by_time, color)
                  for name, color in zip(names, SERIES_COLORS, strict=False)]
        total = state.total_steps if not self._ended else None
        title = _WORDS.get(self._metric, self._metric)
        if title != self.border_title:
            self.border_title = title
        # A fixed axis does not move under the curve, and only the curve's end is sent to the terminal.
        x_range = (0.0, float(total)) if total and not self._by_time else None
        self.query_one(LineChart).show(curves, x_label="time" if self._by_time else "step", x_range=x_range,
                                       x_seconds=self._by_time)


def metric_groups(metrics: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Short name → the full names that belong on one chart, `train/` before `eval/`; in the order to go through."""
    groups: dict[str, list[str]] = {}
    for name in sorted(metrics, reverse=True):
        short = name.partition("/")[2] or name
        if short not in _LEFT_OUT:
            groups.setdefault(short, []).append(name)
    order = sorted(groups, key=lambda short: (_FIRST.index(short) if short in _FIRST else len(_FIRST), short))
    return {short: tuple(groups[short]) for short in order}


def _curve(name: str, series: MetricSeries, by_time: bool, color: str) -> Series:
    return Series(name, series.elapsed[:] if by_time else series.steps[:], series.values[:], color)
