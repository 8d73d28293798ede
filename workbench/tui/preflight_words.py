"""What a preflight found, as a question before a run starts or goes on."""

from collections.abc import Iterable, Sequence

from textual.content import Content

from workbench.engine.preflight import PreflightCheck, problems_of
from workbench.engine.text import sanitise


def unwell(checks: Iterable[PreflightCheck]) -> list[PreflightCheck]:
    """What is not as it should be, problems first."""
    return sorted((check for check in checks if check.status != "ok"), key=lambda check: check.status)


def may_be_passed(checks: Iterable[PreflightCheck]) -> bool:
    """Whether a run may start all the same."""
    return not problems_of(checks, force=True)


def checks_content(checks: Sequence[PreflightCheck]) -> list[Content]:
    """A paragraph for each: what was found, and what to do about it."""
    return [_paragraph(check) for check in checks]


def _paragraph(check: PreflightCheck) -> Content:
    mark, style = ("Problem: ", "bold $error") if check.status == "problem" else ("Warning: ", "bold $warning")
    fix = ("\n", ("What to do: ", "$primary"), sanitise(check.fix)) if check.fix else ()
    return Content.assemble((mark, style), (sanitise(check.message), "$foreground"), *fix)
