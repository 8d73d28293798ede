"""The machine while a run trains: each GPU and the host, with a short history."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from textual.content import Content

from workbench.engine.hardware.gpus import Gpu
from workbench.engine.hardware.host import HostSnapshot
from workbench.engine.text import one_line
from workbench.tui.format import GIB, gib
from workbench.tui.widgets.lines import Lines, bar

_LABEL = 7
_VALUE = 17
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=*#"
_HISTORY = 240
# More GPUs than this leave out their history: two lines each instead of three.
_MOST_IN_FULL = 2
_MUTED = "$foreground 55%"


@dataclass
class _History:
    """Percentages of the last minutes, oldest first, one a poll. Mutable: it grows and forgets."""

    values: deque[float] = field(default_factory=lambda: deque(maxlen=_HISTORY))

    def text(self, width: int, ascii: bool) -> str:
        """The newest values over `width` characters, on a scale from 0 to 100 %."""
        levels = _ASCII_BLOCKS if ascii else _BLOCKS
        shown = list(self.values)[-width:] if width > 0 else []
        return "".join(levels[min(int(value / 100 * len(levels)), len(levels) - 1)] for value in shown).rjust(width)


class Gauges(Lines):
    """Use, memory, temperature and power of every GPU; processors and memory of the host."""

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._gpus: tuple[Gpu, ...] = ()
        self._host: HostSnapshot | None = None
        self._history: dict[str, _History] = {}

    def show(self, gpus: Sequence[Gpu], host: HostSnapshot | None) -> None:
        """Take in the figures of this moment; each call adds one point to the histories."""
        self._gpus, self._host = tuple(gpus), host
        for gpu in gpus:
            self._history.setdefault(gpu.uuid, _History()).values.append(gpu.utilization or 0)
        if host is not None:
            self._history.setdefault("host", _History()).values.append(host.cpu_percent)
        self.redraw()

    def compose_lines(self, width: int) -> list[Content]:
        """GPUs first, then the host."""
        if self._host is None:
            return [Content.styled("Reading the machine…", _MUTED)]
        lines = [] if self._gpus else [Content.styled("No GPU here: training runs on the CPU.", _MUTED)]
        for gpu in self._gpus:
            lines += self._gpu_lines(gpu, width)
        host = self._host
        used = host.ram_total_bytes - host.ram_available_bytes
        return [*lines, self._percent_line("CPU", self._history["host"], host.cpu_percent, width),
                self._memory_line("RAM", used, host.ram_total_bytes, width)]

    def _gpu_lines(self, gpu: Gpu, width: int) -> list[Content]:
        temperature = "–" if gpu.temperature is None else f"{gpu.temperature} °C"
        power = "–" if gpu.power_watts is None else f"{gpu.power_watts:.0f} W"
        in_full = len(self._gpus) <= _MOST_IN_FULL
        use = "–" if gpu.utilization is None else f"{gpu.utilization} %"
        figures = f"{'' if in_full else f'{use:>6}'} {temperature:>7} {power:>7}"
        name = one_line(f"GPU {gpu.index} {gpu.name.removeprefix('NVIDIA ')}", max(width - len(figures), 5))
        head = Content.assemble((name, "bold"), " " * max(width - len(name) - len(figures), 0), figures)
        memory = self._memory_line("memory", gpu.used_bytes, gpu.total_bytes, width)
        if not in_full:
            return [head, memory]
        return [head, self._percent_line("use", self._history[gpu.uuid], gpu.utilization, width), memory]

    def _percent_line(self, label: str, history: _History, value: float | None, width: int) -> Content:
        text = "–" if value is None else f"{value:.0f} %"
        room = width - _LABEL - _VALUE
        return Content.assemble((f"{label:<{_LABEL}}", _MUTED), (history.text(room, self.ascii), "$primary"),
                                f"{text:>{_VALUE}}")

    def _memory_line(self, label: str, used: int | None, total: int | None, width: int) -> Content:
        if used is None or not total:
            return Content.assemble((f"{label:<{_LABEL}}", _MUTED), "–".rjust(width - _LABEL))
        fraction = used / total
        text = f"{used / GIB:.1f} / {gib(total)}"
        style = "$error" if fraction > 0.97 else "$warning" if fraction > 0.9 else "$primary"
        drawn = bar(fraction, width - _LABEL - _VALUE, style, self.ascii)
        return Content.assemble((f"{label:<{_LABEL}}", _MUTED), drawn, f"{text:>{_VALUE}}")
