"""What would fit on each GPU under each tuning: GPUs of one kind and as much free memory are one entry."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from workbench.engine.hardware.cards import PLANNED
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.memory.comparison import Comparison, Fit
from workbench.engine.tuning import TUNINGS
from workbench.tui.format import count, gib

FIT_STYLES: dict[Fit, str] = {"fits": "$success", "tight": "$warning", "no": "$error", "unknown": "$foreground 55%"}
MARKS = "abcdefgh"
"""What stands for a group of GPUs where there are several; a single one is a plain stroke."""
_MUTED = "$foreground 55%"
MOST_GROUPS = 3
"""Groups that are shown in full."""
_COLUMN = 8
# Free memory that differs by less than this share of the card is the same: a desktop or a context, not a job.
_SAME = 0.02


@dataclass(frozen=True, slots=True)
class GpuGroup:
    """GPUs of one name with about as much free memory. `least` is the one with the least: figures are for it."""

    name: str
    gpus: tuple[Gpu, ...]
    least: Gpu

    @property
    def free_bytes(self) -> int | None:
        """What each of them has free at least."""
        return self.least.free_bytes


def group_gpus(gpus: Sequence[Gpu]) -> list[GpuGroup]:
    """All groups, most free memory first; those that do not say how much come last."""
    groups: list[list[Gpu]] = []
    for gpu in sorted(gpus, key=lambda gpu: -(gpu.free_bytes if gpu.free_bytes is not None else -1)):
        for group in groups:
            if group[0].name == gpu.name and _alike(group[0], gpu):
                group.append(gpu)
                break
        else:
            groups.append([gpu])
    return [GpuGroup(group[0].name.removeprefix("NVIDIA "), tuple(group), group[-1]) for group in groups]


def _alike(one: Gpu, other: Gpu) -> bool:
    if one.free_bytes is None or other.free_bytes is None:
        return one.free_bytes is other.free_bytes
    return abs(one.free_bytes - other.free_bytes) <= _SAME * (one.total_bytes or one.free_bytes)


def mark_of(index: int, groups: int, ascii: bool) -> str:
    """What stands for a group in the bars."""
    return MARKS[index] if groups > 1 else "|" if ascii else "│"


def device_lines(comparison: Comparison, chosen: str, gpus: Sequence[Gpu], width: int, ascii: bool) -> list[Content]:
    """A heading with the tunings, the chosen one bold; for each group its name, the verdicts, the most that fits."""
    if not gpus:
        return [Content.styled("No GPU: figures for one with bf16.", _MUTED),
                Content.styled("ctrl+g plans for a card by name.", _MUTED)]
    groups = group_gpus(gpus)
    shown = groups[:MOST_GROUPS]
    titles = [Content.styled(TUNINGS[column.tuning].title, "bold" if column.tuning == chosen else _MUTED)
              for column in comparison.tunings]
    lines = [_row("What fits", titles, width, _MUTED)]
    for index, group in enumerate(shown):
        lines += _group_lines(comparison, group, mark_of(index, len(shown), ascii), width, ascii)
    if hidden := sum(len(group.gpus) for group in groups[MOST_GROUPS:]):
        lines.append(Content.styled(f"{hidden} more GPU{'s' if hidden > 1 else ''} with less free memory", _MUTED))
    return lines


def _group_lines(comparison: Comparison, group: GpuGroup, mark: str, width: int, ascii: bool) -> list[Content]:
    many = len(group.gpus)
    times = f"{many}{'x' if ascii else '×'} " if many > 1 else ""
    when = "if idle" if group.least.uuid.startswith(PLANNED) else "free"
    free = f"{gib(group.free_bytes)} {when}" if group.free_bytes is not None else "free memory unknown"
    room = width - len(times) - len(free) - 4
    name = group.name if len(group.name) <= room else group.name[: max(room - 1, 1)] + ("~" if ascii else "…")
    head = Content.assemble((mark, "bold $foreground"), f" {times}{name}", (f", {free}", _MUTED))
    fits = [next((device for device in column.devices if device.index == group.least.index), None)
            for column in comparison.tunings]
    none = "-" if ascii else "–"
    return [
        head,
        _row("  as set", [Content.styled(fit.fit if fit else "unknown", FIT_STYLES[fit.fit if fit else "unknown"])
                       for fit in fits], width),
        _row("  largest batch" if width >= 44 else "  batch up to",
             [Content(_figure(fit.largest_batch if fit else None, none)) for fit in fits], width),
        _row("  longest max_length" if width >= 44 else "  length up to",
             [Content(_figure(fit.longest_max_length if fit else None, none)) for fit in fits], width),
    ]


def _figure(value: int | None, none: str) -> str:
    if value is None:
        return none
    return f"{value:,}" if value < 1_000_000 else count(value)


def _row(label: str, cells: Sequence[Content], width: int, style: str = "$foreground 65%") -> Content:
    """A label and right-aligned cells, one for each tuning."""
    column = _COLUMN if width >= 44 else max((width - 14) // len(cells), 7)
    parts = [Content.styled(label.ljust(max(width - column * len(cells), 1)), style)]
    parts += [Content.assemble(" " * max(column - cell.cell_length, 1), cell) for cell in cells]
    return Content.assemble(*parts)
