"""The commands that predict memory, registered by cli.py. Imports stay inside, for a quick start."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def estimate(cases: Annotated[Path, typer.Option("--cases", metavar="FILE", help="Cases, one JSON object a line; "
                                                 "- reads standard input.")]) -> None:
    """Estimate many set-ups: one result a line, in order. Exit code 1 when a case was bad, after all were answered."""
    import orjson

    from workbench.engine.errors import InputError
    from workbench.engine.memory.cases_file import results

    bad = False
    try:
        lines = sys.stdin.buffer if str(cases) == "-" else cases.open("rb")
    except OSError as error:
        raise InputError(f"Cannot read the cases in {cases}: {error.strerror or error}.") from None
    with lines:
        for result in results(lines, None if str(cases) == "-" else cases.resolve().parent):
            bad = bad or "error" in result
            sys.stdout.write(orjson.dumps(result).decode() + "\n")
            sys.stdout.flush()
    if bad:
        raise typer.Exit(1)
