"""The host: processor load and memory, read through psutil."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostSnapshot:
    """The host at one moment. `cpu_percent` over all cores since the last call; `load` is the 1-minute average."""

    cpu_percent: float
    ram_total_bytes: int
    ram_available_bytes: int
    load: float | None
    cores: int


def host_snapshot() -> HostSnapshot:
    """Read the host now; never blocks. The first `cpu_percent` of a process is 0: there is no interval yet."""
    import psutil

    memory = psutil.virtual_memory()
    return HostSnapshot(
        cpu_percent=psutil.cpu_percent(interval=None),
        ram_total_bytes=memory.total,
        ram_available_bytes=memory.available,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        cores=psutil.cpu_count() or 1,
    )
