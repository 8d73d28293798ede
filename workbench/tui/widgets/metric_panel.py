"""One metric of a run as a chart: training and evaluation together, by step or by time; the best checkpoint marked."""

from collections.abc import Iterable, Mapping, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical

from workbench.engine.runs.series import MetricSeries
from workbench.engine.runs.state import RunState
from workbench.tui.format import plain_title
from workbench.tui.theme import SERIES_COLORS
from workbench.tui.widgets.line_chart import LineChart, Series

# The order in which a key press goes through them; others follow by name.
_FIRST = ("loss", "grad_norm", "learning_rate", "mean_token_accuracy", "entropy", "tokens_per_second")
# How long an evaluation took and how much was seen so far are no curves to learn from.
_LEFT_OUT = frozenset({"runtime", "samples_per_second", "steps_per_second", "num_tokens", "num_input_tokens_seen"})
_WORDS = {"loss": "Loss", "grad_norm": "Gradient norm", "learning_rate": "Learning rate", "entropy": "Entropy",
          "mean_token_accuracy": "Token accuracy", "tokens_per_second": "Tokens per second",
          "peak_allocated": "Peak GPU memory allocated, bytes", "peak_reserved": "Peak GPU memory reserved, bytes",
          "resident": "Memory of the worker, bytes", "perplexity": "Perplexity", "reward": "Reward",
          "reward_std": "Reward, standard deviation", "kl": "KL divergence", "accuracy": "Accuracy of the ranking",
          "rewards/margins": "Reward margin, chosen over rejected", "rewards/accuracies": "Chosen ranked first",
          "rewards": "Rewards of chosen and rejected", "logps": "Log-probabilities of chosen and rejected",
          "logits": "Logits of chosen and rejected", "log_odds": "Log odds, chosen over rejected",
          "nll_loss": "Loss on the chosen answers", "completions/mean_length": "Answer length, tokens",
          "margin": "Score margin, chosen over rejected", "mean_reward": "Mean score"}
_SIDES = ("chosen", "rejected")
BEST_COLOR = "$success"


class MetricPanel(Vertical):
    """A chart of the chosen metric. It copies what it draws: the run's own series may grow meanwhile."""

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._state: RunState | None = None
        self._ended = False
        self._metric: str | None = None
        self._first: tuple[str, ...] = ()
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
        """What the curves on the chart are called together."""
        return self._metric if self._metric is not None else next(iter(self.metrics), "loss")

    @property
    def metrics(self) -> list[str]:
        """All that can be charted, the run's own first."""
        return list(metric_groups(self._state.metrics, self._first)) if self._state else []

    def forget(self) -> None:
        """Another run is shown: begin with what tells most of it."""
        self._state = self._metric = None

    def show(self, state: RunState, ended: bool, first: Sequence[str] = ()) -> None:
        """Draw a run's present state; `first` are the metrics that tell most of it, by their full names."""
        self._state, self._ended, self._first = state, ended, tuple(first)
        self._draw()

    def choose(self, metric: str) -> None:
        """Chart this one of `metrics`."""
        self._metric = metric
        self._draw()

    def next_metric(self) -> None:
        """Go to the next metric there is."""
        groups = self.metrics
        if groups:
            index = groups.index(self.metric) if self.metric in groups else -1
            self.choose(groups[(index + 1) % len(groups)])

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
        self.border_subtitle = f"m next · M all metrics · l {scale} · x {'steps' if self._by_time else 'time'}"

    def _draw(self) -> None:
        state = self._state
        if state is None:
            return
        names = metric_groups(state.metrics, self._first).get(self.metric, ())
        curves = [_curve(name, state.metrics[name], self._by_time, color)
                  for name, color in zip(names, SERIES_COLORS, strict=False)]
        curves += _best(state, names, self._by_time)
        total = state.total_steps if not self._ended else None
        shown = plain_title(metric_title(self.metric))
        if shown.markup != self.border_title:
            self.border_title = shown
        # A fixed axis does not move under the curve, and only the curve's end is sent to the terminal.
        x_range = (0.0, float(total)) if total and not self._by_time else None
        self.query_one(LineChart).show(curves, x_label="time" if self._by_time else "step", x_range=x_range,
                                       x_seconds=self._by_time)


def metric_groups(metrics: Iterable[str], first: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
    """Short name → the full names that belong on one chart, `train/` before `eval/`; in the order to go through.

    `first` are metrics that come before all others, by their full names.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(metrics, key=lambda name: (not name.startswith("train/"), name)):
        short = _group(name)
        if short not in _LEFT_OUT:
            groups.setdefault(short, []).append(name)
    leading = list(dict.fromkeys((*map(_group, first), *_FIRST)))
    order = sorted(groups, key=lambda short: (leading.index(short) if short in leading else len(leading), short))
    return {short: tuple(groups[short]) for short in order}


def metric_title(group: str) -> str:
    """What a chart of a group is called."""
    return _WORDS.get(group, group)


def _group(name: str) -> str:
    """A metric without where it was measured; chosen and rejected answers stand on one chart."""
    short = name.partition("/")[2] or name
    start, _, side = short.rpartition("/")
    return start if start and side in _SIDES else short


def _best(state: RunState, names: Sequence[str], by_time: bool) -> list[Series]:
    """The best checkpoint as a point of its own, on the chart of the metric that chose it."""
    best = next((checkpoint for checkpoint in state.checkpoints if checkpoint.best), None)
    if best is None or best.metric is None:
        return []
    for name in names:
        series = state.metrics[name]
        if name.startswith("eval/") and best.step in series.steps:
            index = len(series.steps) - 1 - series.steps[::-1].index(best.step)
            if series.values[index] == best.metric:
                x = series.elapsed[index] if by_time else float(best.step)
                return [Series(f"best: step {best.step}", [x], [best.metric], BEST_COLOR)]
    return []


def _curve(name: str, series: MetricSeries, by_time: bool, color: str) -> Series:
    return Series(name, series.elapsed[:] if by_time else series.steps[:], series.values[:], color)
