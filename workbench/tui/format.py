"""How states and machines are shown; figures come from the engine."""

from collections.abc import Sequence

from textual.content import Content

from workbench.engine.figures import GIB, age, count, duration, gib, number
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.hardware.host import HostSnapshot
from workbench.engine.text import one_line

__all__ = ["GIB", "STATE_STYLES", "age", "count", "duration", "gib", "machine_line", "number", "plain_title"]

STATE_STYLES = {
    "queued": "$text-muted", "waiting": "$text-muted", "running": "$primary", "paused": "$warning",
    "finished": "$success", "stopped": "$warning", "failed": "$error", "crashed": "$error", "stalled": "$error",
}


def plain_title(text: str) -> Content:
    """Text for the title of a border, which would be read as markup: shown as it stands, on one line."""
    return Content(one_line(text, 200))


def machine_line(gpus: Sequence[Gpu], host: HostSnapshot) -> str:
    """The machine in a few words."""
    if not gpus:
        return f"no GPU · {host.cores} cores · {host.ram_total_bytes / GIB:.0f} GiB RAM"
    names = {gpu.name for gpu in gpus}
    name = names.pop().removeprefix("NVIDIA ") if len(names) == 1 else "GPUs"
    return f"{len(gpus)}× {name}" if len(gpus) > 1 else name
