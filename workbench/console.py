"""Plain text for the command line: tables, plans, errors. No screens here."""

import sys
from collections.abc import Sequence
from typing import Any

import orjson

from workbench.engine.errors import WorkbenchError
from workbench.engine.figures import age, count, gib, number
from workbench.engine.planning import Plan
from workbench.engine.runs.store import RunSummary
from workbench.engine.text import one_line
from workbench.engine.tuning import TUNINGS


def print_json(document: Any) -> None:
    """One document on stdout and nothing else."""
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
    sys.stdout.flush()


def print_error(error: WorkbenchError) -> None:
    """A sentence and a hint on stderr."""
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Aligned columns; those in `right` are right-aligned."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = (cell.rjust(width) if i in right else cell.ljust(width)
                   for i, (cell, width) in enumerate(zip(cells, widths, strict=True)))
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), *map(line, rows)])


def runs_table(runs: Sequence[RunSummary]) -> str:
    """Every run on a line."""
    rows = [(run.id, run.state, f"{run.step}/{run.total_steps or '?'}", number(run.last_loss), age(run.started))
            for run in runs]
    return table(("RUN", "STATE", "STEP", "LOSS", "STARTED"), rows, right=(2, 3))


def plan_text(plan: Plan) -> str:
    """The memory table, steps and warnings."""
    recipe = plan.recipe
    parameters = f"{count(plan.architecture.parameters)} parameters" if plan.architecture else "parameters unknown"
    lines = [f"{recipe.name}: {recipe.objective.upper()}, {TUNINGS[recipe.tuning].title} on {recipe.model} "
             f"({parameters})", ""]
    if plan.comparison is not None:
        lines += [_memory_table(plan), ""]
    lines += [_work_line(plan)]
    lines += [f"warning: {warning}" for warning in plan.warnings]
    for problem in plan.problems:
        lines.append(f"problem: {problem.message}" + (f" {problem.hint}" if problem.hint else ""))
    return "\n".join(lines)


def _memory_table(plan: Plan) -> str:
    assert plan.comparison is not None
    rows = []
    for column in plan.comparison.tunings:
        mark = "*" if column.tuning == plan.recipe.tuning else " "
        title = f"{mark} {TUNINGS[column.tuning].title}"
        estimate = column.estimate
        if estimate is None:
            rows.append((title, "–", "–", "–", "–", "–", "–", one_line(column.problem or "", 60)))
            continue
        parts = estimate.components
        rows.append((title, gib(estimate.peak_bytes, 2), gib(parts["weights"], 2),
                     gib(parts["gradients"] + parts["optimizer"], 2), gib(parts["activations"] + parts["logits"], 2),
                     gib(parts["workspace"], 2), count(estimate.trainable_parameters), column.fit))
    header = ("  TUNING", "PEAK", "WEIGHTS", "GRAD+OPTIM", "ACTIVATIONS", "WORKSPACE", "TRAINED", "FITS")
    if plan.gpus:
        where = ", ".join(f"{gpu.name} ({gib(gpu.free_bytes)} free)" for gpu in plan.gpus)
    else:
        where = "no GPU here: figures for a GPU with bfloat16"
    return table(header, rows, right=(1, 2, 3, 4, 5, 6)) + f"\n  {where}"


def rehearsal_text(name: str, document: dict[str, Any]) -> str:
    """The rehearsal beside the estimate."""
    parts = document["components"]
    depths = " and ".join(map(str, document["depths_traced"]))
    lines = [f"{name}: {count(document['parameters'])} parameters, {count(document['trainable_parameters'])} trained",
             "", f"  rehearsal  {gib(document['peak_bytes'], 2)}  at {document['peak_moment']}"]
    if document["estimate_bytes"] is None:
        lines.append(f"  estimate   none: {document['estimate_problem']}")
    else:
        lines.append(f"  estimate   {gib(document['estimate_bytes'], 2)}  {document['difference']:+.1%}")
    lines += ["", "  " + " · ".join(f"{part} {gib(size, 2)}" for part, size in parts.items()),
              f"  {gib(document['static_bytes'], 2)} are alive when a forward pass begins",
              f"  traced with {depths} layers in {document['seconds']:.1f} s"]
    return "\n".join(lines)


def _work_line(plan: Plan) -> str:
    rows = f"{plan.rows:,} rows" if plan.rows is not None else "rows unknown until launch"
    steps = f"{plan.steps:,} steps" if plan.steps is not None else "steps unknown until launch"
    tokens = f"about {count(plan.tokens)} tokens" if plan.tokens is not None else "tokens unknown until launch"
    return f"{rows} · {steps} of {plan.recipe.effective_batch_size} rows · {tokens}"
