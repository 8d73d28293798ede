"""A dataset in two lines: what it is and how its check stands."""

from textual.content import Content

from workbench.engine.data.findings import refused
from workbench.engine.errors import InputError
from workbench.engine.recipe import Recipe
from workbench.engine.text import one_line
from workbench.tui.data_checks import DataCheck
from workbench.tui.row_reader import Item, RowReader

_MUTED = "$foreground 60%"


def summary_content(recipe: Recipe, reader: RowReader | None, check: DataCheck | None, problem: InputError | None,
                    reading: str) -> Content:
    """The dataset with the format found and why; rows, and what is being done or was found."""
    formats = {f"{found.name}: {found.why}" for found in reader.formats.values()} if reader else set()
    first = Content.assemble((one_line(recipe.dataset.label, 60), "bold"), "  ",
                             (f"for {recipe.objective}", _MUTED), "  ",
                             ("; ".join(sorted(formats)), _MUTED))
    if problem is not None:
        return Content("\n").join([first, Content.styled("These rows cannot be used.", "$error")])
    parts = _counts(check)
    if check is not None and check.structure is not None:
        bad, found = refused(check.findings, recipe.data), check.findings
        if bad:
            parts.append(Content.styled(f"{len(bad)} finding{'s' if len(bad) > 1 else ''} would keep it from starting",
                                        "$warning"))
        elif check.done:
            parts.append(Content.styled("all findings are allowed" if found else "nothing found", "$success"))
    doing = reading or (check.doing if check else "")
    if doing:
        share = f" {check.share:.0%}" if check and check.share is not None and not reading else ""
        parts.append(Content.styled(f"{doing}…{share}", "$primary"))
    return Content("\n").join([first, Content.styled(" · ", _MUTED).join(parts)])


def _counts(check: DataCheck | None) -> list[Content]:
    report = check.structure if check else None
    if report is None:
        return []
    about = "" if report.exact else f" of about {report.rows_estimated:,}" if report.rows_estimated else " so far"
    parts = [Content(f"{report.rows:,} rows{about}")]
    if report.rejected_count:
        parts.append(Content.styled(f"{report.rejected_count:,} cannot be used", "$error"))
    return parts


def check_note(check: DataCheck | None, recipe: Recipe) -> str:
    """What stands below the dataset in Plan: what would keep it from starting; empty while there is nothing."""
    bad = refused(check.findings, recipe.data) if check else ()
    if not bad:
        return ""
    return f"{', '.join(f'{finding.count:,} {finding.id}' for finding in bad)}: ctrl+d shows them"


def check_sentence(check: DataCheck | None, recipe: Recipe) -> str:
    """How the check of the data stands, in one sentence."""
    if check is None:
        return "not checked yet"
    if check.doing:
        share = f" {check.share:.0%}" if check.share is not None else ""
        return f"{check.doing}…{share}"
    if check.problem is not None or check.structure is None:
        return "cannot be used: see the dataset"
    report = check.structure
    bad = refused(check.findings, recipe.data)
    words = f"{len(bad)} findings to look at" if len(bad) > 1 else "1 finding to look at" if bad else \
        "all findings are allowed" if check.findings else "nothing found"
    about = "" if report.exact else f" in the first {report.rows:,} rows"
    return f"{report.format}; {words}{about}" + (f". {check.note}" if check.note else "")


def next_place(check: DataCheck | None, row: Item | None) -> str | None:
    """The place of the next row behind `row` that something is wrong with; behind the last one, the first."""
    if check is None or check.structure is None:
        return None
    places = {(bad.source, bad.line) for bad in check.structure.rejected}
    for finding in check.findings:
        for place in finding.places:
            source, _, line = place.rpartition(":")
            places.add((source, int(line)))
    if not places:
        return None
    ordered = sorted(places)
    here = (row.source, row.line) if row is not None else ("", 0)
    found = next((place for place in ordered if place > here), ordered[0])
    return f"{found[0]}:{found[1]}"
