"""A run whose processes give no sign of life: which of them, and what to do."""

from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.state import STALL_SECONDS
from workbench.engine.runs.store import heartbeat_age


def silent(run: RunDirectory) -> str:
    """Who of a stalled run gives no sign of life."""
    age = heartbeat_age(run)
    return "supervisor" if age is not None and age > STALL_SECONDS else "worker"


def stall_words(silent: str, stop: str = "s", resume: str = "r") -> tuple[str, str]:
    """Of a stalled run what is wrong, and what to do; `stop` and `resume` are the keys or commands for it."""
    explanation = f"Its {silent or 'supervisor'} has given no sign of life for {STALL_SECONDS:.0f} seconds or more."
    if silent == "worker":
        return explanation, f"It may be in a long computation or hang: wait, or end it with {stop}; {resume} then " \
            "goes on."
    return explanation, "See the log; the machine may be out of memory or its disk may hang."
