"""Predicted GPU memory of full, LoRA and QLoRA: stacked bars on one scale, and what would fit on each GPU."""

from textual.content import Content

from workbench.engine.memory.comparison import TuningComparison
from workbench.engine.planning import Plan
from workbench.engine.tuning import TUNINGS
from workbench.tui.format import count, gib
from workbench.tui.widgets.device_fits import FIT_STYLES, MOST_GROUPS, device_lines, group_gpus, mark_of
from workbench.tui.widgets.lines import Lines

# (title, components of an estimate, colour, ASCII letter)
_PARTS = (
    ("weights", ("weights",), "$primary", "W"),
    ("gradients + optimizer", ("gradients", "optimizer"), "$warning", "O"),
    ("activations", ("activations", "logits"), "$success", "A"),
    ("workspace", ("workspace",), "$secondary", "K"),
)
_SHORT = {"gradients + optimizer": "optim", "activations": "activ.", "workspace": "work"}
_MUTED = "$foreground 55%"
_FAINT = "$foreground 20%"
# Beyond this many times the largest peak, free memory is off the scale: bars of a small model stay readable.
_LONGEST_SCALE = 4
_ROOM_FOR_BAND = 52


class MemoryTable(Lines):
    """The comparison, the recipe's own tuning marked. A stroke or letter in a bar is the free memory of a GPU, an
    arrow at its end that there is more than the scale shows."""

    def __init__(self) -> None:
        super().__init__()
        self._plan: Plan | None = None

    def show(self, plan: Plan) -> None:
        """Show another plan."""
        self._plan = plan
        self.redraw()

    def compose_lines(self, width: int) -> list[Content]:
        """A heading, two lines a tuning, the legend, the GPUs."""
        plan = self._plan
        if plan is None:
            return [Content.styled("Calculating…" if not self.ascii else "Calculating...", _MUTED)]
        if plan.comparison is None:
            known = plan.model is not None and plan.model.kind != "hub"
            words = ("No estimate for this model.", "ctrl+r traces the real trainer.") if known else (
                "Memory is shown once the model is", "known: on this disk or by name.")
            return [Content.styled(line, _MUTED) for line in words]
        scale = _scale(plan)
        lines = [self._heading(width)]
        for column in plan.comparison.tunings:
            lines += [self._figures(column, column.tuning == plan.recipe.tuning, width),
                      self._bar(column, scale, self._marks(plan), width)]
        devices = device_lines(plan.comparison, plan.recipe.tuning, plan.gpus, width, self.ascii)
        return [*lines, self._legend(width), *devices]

    def _heading(self, width: int) -> Content:
        band = f"{'low – high' if not self.ascii else 'low - high':>15}" if width >= _ROOM_FOR_BAND else ""
        start = f"{'peak':>18}{band}  fits"
        return Content.styled(f"{start}{'trained':>{max(width - len(start), 0)}}", _MUTED)

    def _figures(self, column: TuningComparison, chosen: bool, width: int) -> Content:
        marker = ">" if self.ascii else "▸"
        style = "bold $foreground" if chosen else "$foreground 75%"
        title = Content.styled(f"{marker if chosen else ' '} {TUNINGS[column.tuning].title:<6}", style)
        estimate = column.estimate
        if estimate is None:
            return Content.assemble(title, (f"{'not estimated':>14}", _MUTED))
        band = ""
        if width >= _ROOM_FOR_BAND:
            dash = "-" if self.ascii else "–"
            band = f"{_short(estimate.low_bytes)} {dash} {_short(estimate.high_bytes)}".rjust(15)
        start = Content.assemble(title, (f"{gib(estimate.peak_bytes, 2):>10}", style), (band, _MUTED), "  ",
                                 (column.fit, FIT_STYLES[column.fit]))
        trained = count(estimate.trainable_parameters).rjust(max(width - start.cell_length, 0))
        return Content.assemble(start, (trained, _MUTED))

    def _bar(self, column: TuningComparison, scale: int, marks: list[tuple[int, str]], width: int) -> Content:
        estimate = column.estimate
        if estimate is None:
            return Content("")
        room = max(width - 2, 1)
        cells = [("." if self.ascii else "─", _FAINT)] * room
        done, drawn = 0.0, 0
        for _, names, color, letter in _PARTS:
            done += sum(estimate.components[name] for name in names)
            end = min(round(done / scale * room), room)
            cells[drawn:end] = [(letter if self.ascii else "█", color)] * (end - drawn)
            drawn = max(drawn, end)
        for free, mark in marks:
            at = round(free / scale * room)
            if at >= room:
                cells[-1] = (">" if self.ascii else "→", _MUTED)
            else:
                behind = cells[at][1] if at < drawn else ""
                cells[at] = (mark, f"bold $background on {behind}" if behind else "bold $foreground")
        return Content.assemble("  ", *cells)

    def _marks(self, plan: Plan) -> list[tuple[int, str]]:
        """Free bytes and mark of each group of GPUs that says how much it has free."""
        groups = group_gpus(plan.gpus)[:MOST_GROUPS]
        return [(group.free_bytes, mark_of(index, len(groups), self.ascii))
                for index, group in enumerate(groups) if group.free_bytes is not None]

    def _legend(self, width: int) -> Content:
        short = width < 60
        pieces: list[Content | str] = ["  "]
        for title, _, color, letter in _PARTS:
            name = _SHORT.get(title, title) if short else title
            pieces += [Content.styled(letter if self.ascii else "█", color),
                       Content.styled(f" {name}{' ' if short else '  '}", _MUTED)]
        return Content.assemble(*pieces).truncate(width)


def _scale(plan: Plan) -> int:
    """Bytes that a whole bar stands for."""
    assert plan.comparison is not None
    peak = max([column.estimate.peak_bytes for column in plan.comparison.tunings if column.estimate] + [1])
    free = max([gpu.free_bytes for gpu in plan.gpus if gpu.free_bytes] + [0])
    # One cell more than the most that is free, so that its mark is seen.
    return max(peak, min(round(free * 1.03), _LONGEST_SCALE * peak))


def _short(value: int) -> str:
    """Bytes in the unit of `gib`, without it where that is GiB."""
    return gib(value).removesuffix(" GiB").removesuffix(" MiB")
