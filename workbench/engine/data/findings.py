"""What the data check finds, and which of it keeps a run from starting."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from workbench.engine.recipe_data import DataSettings, FindingId

__all__ = ["Finding", "FindingId", "how_to_pass", "refused"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the data that a run should not start with unasked: `count` times, in `places` among others."""

    id: FindingId
    count: int
    message: str
    hint: str | None = None
    places: tuple[str, ...] = ()
    """Some of them, as file:line."""

    def to_json(self) -> dict[str, Any]:
        """As `workbench data --json` shows it."""
        return {**asdict(self), "places": list(self.places)}


def refused(findings: Iterable[Finding], data: DataSettings) -> tuple[Finding, ...]:
    """Those that the recipe does not let pass: `data.allow` names what may, `data.max_rejected_rows` says how many
    rejected rows may."""

    def passes(finding: Finding) -> bool:
        if finding.id == "rejected-rows":
            return finding.count <= data.max_rejected_rows
        return data.allow == "all" or finding.id in data.allow

    return tuple(finding for finding in findings if not passes(finding))


def how_to_pass(stopping: Iterable[Finding], data: DataSettings) -> str:
    """What to do about refused findings: a sentence with the very options that let them pass too."""
    stopping = list(stopping)
    allowed = () if data.allow == "all" else data.allow
    new = [finding.id for finding in stopping if finding.id != "rejected-rows"]
    rejected = sum(finding.count for finding in stopping if finding.id == "rejected-rows")
    # Quoted: shells take brackets and spaces for something of their own.
    options = [f"--set 'data.allow=[{', '.join(dict.fromkeys((*allowed, *new)))}]'"] if new else []
    options += [f"--set data.max_rejected_rows={rejected}"] if rejected else []
    return f"Mend the data, or start all the same with `{' '.join(options)}`."
