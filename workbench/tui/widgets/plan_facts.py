"""What a plan would do, in words: what is trained, how much work, the peak and its moment, time, warnings."""

import textwrap

from textual.content import Content

from workbench.engine.figures import count, duration, gib
from workbench.engine.planning import Plan
from workbench.engine.text import one_line
from workbench.tui.widgets.lines import Lines

_LABEL = 11
_MUTED = "$foreground 55%"
_LINE = "$foreground"


class PlanFacts(Lines):
    """A label and a sentence each, long ones wrapped under their beginning; warnings and problems last."""

    def __init__(self) -> None:
        super().__init__()
        self._plan: Plan | None = None

    def show(self, plan: Plan) -> None:
        """Show another plan."""
        self._plan = plan
        self.refresh(layout=True)

    def compose_lines(self, width: int) -> list[Content]:
        """The facts, wrapped to the width."""
        plan = self._plan
        if plan is None:
            return []
        lines: list[Content] = []
        for label, text in plan_facts(plan):
            lines += _wrapped(f"{label:<{_LABEL}}", text, width, _MUTED, _LINE)
        for warning in plan.warnings:
            lines += _wrapped("! ", one_line(warning, 400), width, "$warning", "$foreground 75%")
        for problem in plan.problems:
            text = one_line(f"{problem.message} {problem.hint or ''}".strip(), 400)
            lines += _wrapped("x " if self.ascii else "✗ ", text, width, "$error", _LINE)
        return lines


def plan_facts(plan: Plan) -> list[tuple[str, str]]:
    """Labels and sentences."""
    estimate = plan.comparison[plan.recipe.tuning].estimate if plan.comparison else None
    facts = []
    if plan.architecture is not None and estimate is not None:
        share = estimate.trainable_parameters / plan.architecture.parameters
        facts.append(("trains", f"{count(estimate.trainable_parameters)} of {count(plan.architecture.parameters)} "
                                f"parameters ({share * 100:.3g}%)"))
    facts.append(("work", _work(plan)))
    if estimate is not None:
        moment = estimate.peak_moment.removeprefix("the ")
        facts.append(("peak", f"{gib(estimate.peak_bytes, 2)}, from {gib(estimate.low_bytes, 2)} to "
                              f"{gib(estimate.high_bytes, 2)}; reached at the {moment}"))
    if plan.tokens_per_second is None:
        facts.append(("time", "unknown until a first run of this kind here"))
    else:
        about = f"about {duration(plan.seconds)} at " if plan.seconds is not None else ""
        facts.append(("time", f"{about}{plan.tokens_per_second:,.0f} tokens/s, as measured here"))
    return facts


def _work(plan: Plan) -> str:
    if plan.rows is None and plan.steps is None:
        return "rows, steps and tokens are known at launch"
    steps = f"{plan.steps:,} steps of {plan.recipe.effective_batch_size} rows" if plan.steps is not None \
        else "steps known at launch"
    tokens = f"about {count(plan.tokens)} tokens" if plan.tokens is not None else "tokens known at launch"
    rows = f"{plan.rows:,} rows in the data" if plan.rows is not None else "rows known at launch"
    return f"{steps}, {tokens}; {rows}"


def _wrapped(head: str, text: str, width: int, head_style: str, style: str) -> list[Content]:
    room = max(width - len(head), 10)
    parts = textwrap.wrap(text, room) or [""]
    return [Content.assemble((head if index == 0 else " " * len(head), head_style), (part, style))
            for index, part in enumerate(parts)]
