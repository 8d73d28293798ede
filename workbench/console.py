"""Plain text for the command line: tables, plans, errors. No screens here."""

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import orjson

from workbench.engine.errors import WorkbenchError
from workbench.engine.explain.document import Bars, Explanation, Table, to_ascii
from workbench.engine.figures import age, count, duration, gib, number
from workbench.engine.planning import Plan
from workbench.engine.preflight import PreflightCheck
from workbench.engine.runs.chain import by_chain
from workbench.engine.runs.store import RunSummary
from workbench.engine.text import one_line, sanitise
from workbench.engine.tuning import TUNINGS

_NOT_IN_JSON = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def print_json(document: Any) -> None:
    """One document on stdout and nothing else."""
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    # JSON escapes C0 alone; a terminal obeys C1 as well, and text can be turned round.
    sys.stdout.write(_NOT_IN_JSON.sub(lambda match: f"\\u{ord(match.group()):04x}", text) + "\n")
    sys.stdout.flush()


def print_error(error: WorkbenchError) -> None:
    """A sentence and a hint on stderr."""
    print(f"error: {sanitise(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"hint: {sanitise(error.hint)}", file=sys.stderr)


def print_checks(checks: Sequence[PreflightCheck]) -> None:
    """What a launch goes on in spite of, on stderr."""
    for check in checks:
        print(sanitise(f"warning: {check.message}" + (f" {check.fix}" if check.fix else "")), file=sys.stderr)


def checks_text(plan: Plan, checks: Sequence[PreflightCheck]) -> str:
    """Every check of a preflight on a line, its fix below it; what the plan has said already is left out."""
    lines = ["before it starts:"]
    for check in checks:
        if check.message in {problem.message for problem in plan.problems}:
            continue
        lines.append(sanitise(f"  {check.status:<8} {check.id:<11} {check.message}"))
        lines += [sanitise(f"  {'':<8} {'':<11} {check.fix}")] if check.fix else []
    return "\n".join(lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Aligned columns; those in `right` are right-aligned."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = (cell.rjust(width) if i in right else cell.ljust(width)
                   for i, (cell, width) in enumerate(zip(cells, widths, strict=True)))
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), *map(line, rows)])


def runs_table(runs: Sequence[RunSummary]) -> str:
    """Every run on a line, the stages of a pipeline one after the other."""
    rows = [(run.id, run.state, f"{run.step}/{run.total_steps or '?'}", number(run.last_loss), age(run.started),
             f"{run.pipeline.stage}/{run.pipeline.of} {run.pipeline.name}" if run.pipeline else "")
            for run in by_chain(runs)]
    header = ("RUN", "STATE", "STEP", "LOSS", "STARTED", "STAGE")
    columns = 6 if any(run.pipeline for run in runs) else 5
    return table(header[:columns], [row[:columns] for row in rows], right=(2, 3))


def explanation_text(explanation: Explanation) -> str:
    """An explanation as wide as the terminal, 100 columns at most; in seven bits where the output is not UTF-8."""
    width = min(shutil.get_terminal_size().columns, 100)
    lines = [explanation.title]
    for section in explanation.sections:
        lines += ["", section.title]
        for part in section.parts:
            if isinstance(part, Table):
                lines.append(textwrap.indent(table(part.header, part.rows, part.right), "  "))
            elif isinstance(part, Bars):
                lines += _bars(part, width)
            else:
                lines.append(textwrap.fill(part, width, initial_indent="  ", subsequent_indent="  "))
    text = "\n".join(lines)
    return text if (sys.stdout.encoding or "").lower().startswith("utf") else to_ascii(text)


def _bars(bars: Bars, width: int) -> list[str]:
    most, label = max(*bars.counts, 1), max(map(len, bars.labels))
    room = max(min(width - label - 14, 50), 1)
    return [f"  {name:>{label}} {'#' * round(number / most * room)} {number:,}"
            for name, number in zip(bars.labels, bars.counts, strict=True)]


def plan_text(plan: Plan) -> str:
    """The memory table, steps and warnings; of a pipeline, every stage's."""
    if not plan.stages:
        return _one_plan_text(plan)
    of = len(plan.stages)
    parts = [f"Stage {number} of {of}\n{_one_plan_text(stage)}" for number, stage in enumerate(plan.stages, 1)]
    largest = max(plan.stages, key=lambda stage: stage.peak_bytes or 0)
    peak = f"largest peak of the {of} stages: {gib(plan.peak_bytes, 2)}, in {largest.recipe.name}"
    return "\n\n".join([*parts, peak])


def _one_plan_text(plan: Plan) -> str:
    recipe = plan.recipe
    parameters = f"{count(plan.architecture.parameters)} parameters" if plan.architecture else "parameters unknown"
    lines = [f"{recipe.name}: {recipe.objective.upper()}, {TUNINGS[recipe.tuning].title} on {recipe.model} "
             f"({parameters})", ""]
    if plan.comparison is not None:
        lines += [_memory_table(plan), ""]
        lines += [_fit_table(plan), ""] if plan.gpus else []
        lines += [f"to fit: {s.words}: {gib(s.peak_bytes)}, {_FITS[s.fit]}" for s in plan.suggestions]
    lines += [_work_line(plan), _pace_line(plan)]
    lines += [f"warning: {sanitise(warning)}" for warning in plan.warnings]
    for problem in plan.problems:
        lines.append(sanitise(f"problem: {problem.message}" + (f" {problem.hint}" if problem.hint else "")))
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
    where = "" if plan.gpus else "\n  no GPU here: figures for a GPU with bfloat16; --gpu NAME plans for one"
    return table(header, rows, right=(1, 2, 3, 4, 5, 6)) + where


_FITS: dict[str, str] = {"fits": "fits", "tight": "tight", "no": "does not fit", "unknown": "unknown"}


def _fit_table(plan: Plan) -> str:
    """For each tuning and GPU: whether it fits, the largest batch and the longest rows; GPUs that are alike once."""
    assert plan.comparison is not None
    rows: dict[tuple[str, ...], int] = {}
    for column in plan.comparison.tunings:
        for d in column.devices:
            cells = (TUNINGS[column.tuning].title, d.name, gib(d.free_bytes), d.fit,
                     _most(d.largest_batch), _most(d.longest_max_length))
            rows[cells] = rows.get(cells, 0) + 1
    header = ("  TUNING", "GPU", "FREE", "FITS", "LARGEST BATCH", "LONGEST ROWS")
    shown = [(f"  {cells[0]}", f"{n} x {cells[1]}" if n > 1 else cells[1], *cells[2:]) for cells, n in rows.items()]
    training = plan.recipe.training
    return table(header, shown, right=(2, 4, 5)) + (
        f"\n  largest batch at {training.max_length:,} tokens; longest rows in tokens at a batch of "
        f"{training.per_device_train_batch_size}")


def _most(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


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
    rows, steps = plan.size
    rows = f"{rows} rows" if rows else "rows unknown until launch"
    steps = f"{steps} steps" if steps else "steps unknown until launch"
    tokens = f"about {count(plan.tokens)} tokens" if plan.tokens is not None else "tokens unknown until launch"
    return f"{rows} · {steps} of {plan.recipe.effective_batch_size} rows · {tokens}"


def _pace_line(plan: Plan) -> str:
    like = plan.throughput
    if like is None:
        return "time unknown until a run like this one was measured here"
    return f"about {duration(plan.seconds)} at {count(like.tokens_per_second)} tokens/s, as {like.run_id} measured"
