"""Predicted GPU memory of full, LoRA and QLoRA, as stacked bars on one scale."""

from textual.app import RenderResult
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from workbench.engine.memory.comparison import TuningComparison
from workbench.engine.planning import Plan
from workbench.engine.tuning import TUNINGS
from workbench.tui.format import count, gib

# (title, components of an estimate, colour, ASCII letter)
_PARTS = (
    ("weights", ("weights",), "$primary", "W"),
    ("gradients + optimizer", ("gradients", "optimizer"), "$warning", "O"),
    ("activations", ("activations", "logits"), "$success", "A"),
    ("workspace", ("workspace",), "$secondary", "K"),
)
_SHORT = {"gradients + optimizer": "optim", "activations": "activ.", "workspace": "work"}
_FIT_STYLES = {"fits": "$success", "tight": "$warning", "no": "$error", "unknown": "$foreground 55%"}
_FIT_WORDS = {"fits": "fits", "tight": "tight", "no": "too big", "unknown": "no GPU"}


class MemoryTable(Widget):
    """The comparison; the recipe's own tuning is marked. Two lines a tuning, then a legend and the devices."""

    DEFAULT_CSS = "MemoryTable { height: auto; min-height: 9; }"
    plan: reactive[Plan | None] = reactive(None, layout=True)

    def render(self) -> RenderResult:
        """Figures and bars for the width there is."""
        plan = self.plan
        if plan is None:
            return Content.styled("Calculating…", "$foreground 55%")
        if plan.comparison is None:
            return Content.styled("Memory is shown once the model is known.", "$foreground 55%")
        width = max(self.content_size.width or self.size.width, 20)
        columns = plan.comparison.tunings
        scale = max([column.estimate.peak_bytes for column in columns if column.estimate]
                    + [gpu.free_bytes for gpu in plan.gpus if gpu.free_bytes] + [1])
        lines = []
        for column in columns:
            chosen = column.tuning == plan.recipe.tuning
            lines += [self._figures(column, chosen, width), self._bar(column, scale, width)]
        return Content("\n").join([*lines, self._legend(width), *self._devices(plan, width)])

    def _figures(self, column: TuningComparison, chosen: bool, width: int) -> Content:
        marker = ">" if self._ascii else "▸"
        style = "bold $foreground" if chosen else "$foreground 75%"
        title = Content.styled(f"{marker if chosen else ' '} {TUNINGS[column.tuning].title:<6}", style)
        if column.estimate is None:
            return Content.assemble(title, " ", (column.problem or "not estimated", "$foreground 55%"))
        fit = Content.styled(f"{_FIT_WORDS[column.fit]:<7}", _FIT_STYLES[column.fit])
        trains = f"trains {count(column.estimate.trainable_parameters)}"
        parts: list[Content | str] = [title, Content.styled(f"{gib(column.estimate.peak_bytes):>10}  ", style), fit]
        if width >= 42:
            parts.append(Content.styled(f"{trains:>{width - 27}}", "$foreground 55%"))
        return Content.assemble(*parts)

    def _bar(self, column: TuningComparison, scale: int, width: int) -> Content:
        estimate = column.estimate
        if estimate is None:
            return Content("")
        room = width - 2
        pieces: list[Content | str] = ["  "]
        done, drawn = 0.0, 0
        for _, names, color, letter in _PARTS:
            done += sum(estimate.components[name] for name in names)
            end = round(done / scale * room)
            pieces.append(Content.styled((letter if self._ascii else "█") * (end - drawn), color))
            drawn = end
        rest = room - drawn
        pieces.append(Content.styled(("." if self._ascii else "─") * rest, "$foreground 20%"))
        return Content.assemble(*pieces)

    def _legend(self, width: int) -> Content:
        short = width < 60
        pieces: list[Content | str] = ["  "]
        for title, _, color, letter in _PARTS:
            name = _SHORT.get(title, title) if short else title
            pieces += [Content.styled(letter if self._ascii else "█", color),
                       Content.styled(f" {name}{' ' if short else '  '}", "$foreground 55%")]
        return Content.assemble(*pieces).truncate(width)

    def _devices(self, plan: Plan, width: int) -> list[Content]:
        if not plan.gpus:
            text = "No GPU: figures for one with bf16."
            return [Content.styled("  " + text, "$foreground 55%").truncate(width)]
        groups: dict[tuple[str, int | None], list[int]] = {}
        for gpu in plan.gpus:
            free = gpu.free_bytes // 2**30 * 2**30 if gpu.free_bytes is not None else None
            groups.setdefault((gpu.name.removeprefix("NVIDIA "), free), []).append(gpu.index)
        lines = []
        for (name, free), indices in groups.items():
            times = f"{len(indices)}× " if len(indices) > 1 else ""
            lines.append(Content.styled(f"  {times}{name}: {gib(free)} free", "$foreground 65%").truncate(width))
        return lines[:4]

    @property
    def _ascii(self) -> bool:
        return bool(getattr(self.app, "ascii_only", False))
