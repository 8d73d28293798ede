"""What a plan would do, in words: what is trained, how much work, the peak and its moment, time, warnings."""

from pathlib import Path

from textual.content import Content
from textual.geometry import Size

from workbench.engine.data.findings import refused
from workbench.engine.errors import InputError
from workbench.engine.figures import count, duration, gib
from workbench.engine.objective_checks import reward_references
from workbench.engine.planning import Plan
from workbench.engine.rewards import reward_source
from workbench.engine.text import one_line
from workbench.tui.data_checks import DataCheck
from workbench.tui.widgets.data_summary import check_sentence
from workbench.tui.widgets.lines import Lines, wrapped
from workbench.tui.widgets.rehearsal_status import RehearsalStatus, rehearsal_sentence

_MUTED = "$foreground 55%"
_LINE = "$foreground"
_WIDE = 44


class PlanFacts(Lines):
    """A label and a sentence each, long ones wrapped under their beginning; warnings and problems last.

    Unlike other `Lines`, there are more of them where it is narrow: the height is asked for with the width.
    """

    def __init__(self) -> None:
        super().__init__()
        self._plan: Plan | None = None
        self._rehearsal: RehearsalStatus | None = None
        self._check: DataCheck | None = None
        self._base_dir = Path()

    def show_check(self, check: DataCheck | None) -> None:
        """Show how the check of this plan's data stands."""
        self._check = check
        self.redraw()

    def show_rehearsal(self, status: RehearsalStatus | None) -> None:
        """Show how the rehearsal of this plan's recipe stands."""
        self._rehearsal = status
        self.redraw()

    def show(self, plan: Plan, base_dir: Path) -> None:
        """Show another plan; its relative paths start from `base_dir`."""
        self._plan, self._base_dir = plan, base_dir
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The lines it takes at a width."""
        return len(self.compose_lines(width))

    def compose_lines(self, width: int) -> list[Content]:
        """The facts, wrapped to the width."""
        plan = self._plan
        if plan is None:
            return []
        lines: list[Content] = []
        label_width = 11 if width >= _WIDE else 10
        facts = [*plan_facts(plan, self._rehearsal, self.ascii), *reward_facts(plan, self._base_dir),
                 ("data", check_sentence(self._check, plan.recipe))]
        for label, text in facts:
            lines += wrapped(f"{label:<{label_width}}", text, width, _MUTED, _LINE)
        for warning in plan.warnings:
            lines += wrapped("! ", one_line(warning, 400), width, "$warning", "$foreground 75%")
        stopping = {finding.message: finding for finding in
                    (refused(self._check.findings, plan.recipe.data) if self._check else ())}
        for message in stopping.keys() - {problem.message for problem in plan.problems}:
            lines += wrapped("! ", one_line(message, 400), width, "$warning", "$foreground 75%")
        for problem in plan.problems:
            hint = "ctrl+l asks whether to start all the same." if problem.message in stopping else problem.hint or ""
            text = one_line(f"{problem.message} {hint}".strip(), 400)
            lines += wrapped("x " if self.ascii else "✗ ", text, width, "$error", _LINE)
        return lines


def plan_facts(plan: Plan, rehearsal: RehearsalStatus | None, ascii: bool) -> list[tuple[str, str]]:
    """Labels and sentences."""
    column = plan.comparison[plan.recipe.tuning] if plan.comparison else None
    estimate = column.estimate if column else None
    facts = []
    if plan.stages:
        names = (" -> " if ascii else " → ").join(stage.recipe.objective for stage in plan.stages)
        facts.append(("pipeline", f"{names}; the form and these figures are the first stage's, the others are in the "
                                  f"file. Largest peak of all: {gib(plan.peak_bytes, 2)}"))
    if plan.architecture is not None and estimate is not None:
        share = estimate.trainable_parameters / plan.architecture.parameters
        facts.append(("trains", f"{count(estimate.trainable_parameters)} of {count(plan.architecture.parameters)} "
                                f"parameters ({share * 100:.3g}%)"))
    facts.append(("work", _work(plan)))
    if estimate is not None:
        moment = estimate.peak_moment.removeprefix("the ")
        facts.append(("peak", f"{gib(estimate.peak_bytes, 2)}, from {gib(estimate.low_bytes, 2)} to "
                              f"{gib(estimate.high_bytes, 2)}; at the {moment}"))
    elif column is not None and column.problem:
        facts.append(("peak", f"not estimated: {column.problem}"))
    if plan.model is not None and plan.model.kind != "hub":
        facts.append(("rehearsed", rehearsal_sentence(rehearsal, estimate, ascii)))
    if plan.throughput is None:
        facts.append(("time", "unknown until a first run of this kind here"))
    else:
        about = f"about {duration(plan.seconds)} at " if plan.seconds is not None else ""
        facts.append(("time", f"{about}{plan.throughput.tokens_per_second:,.0f} tokens/s, as measured here"))
    return facts


def reward_facts(plan: Plan, base_dir: Path) -> list[tuple[str, str]]:
    """What scores the answers of reinforcement learning: whose code will run, or which model."""
    if plan.recipe.objective != "rlhf":
        return []
    facts = []
    for reference in reward_references(plan.recipe):
        try:
            source = reward_source(reference, base_dir)
        except InputError:
            continue  # it is among the problems
        whose = {"function": f"runs your code: {source.value} in {source.path}",
                 "model": f"a reward model: {source.path}"}
        facts.append(("reward", whose.get(source.kind, f"{source.reference}, built in")))
    return facts


def _work(plan: Plan) -> str:
    rows, steps = plan.size
    known = [words for value, words in (
        (rows, f"{rows} rows"),
        (steps, f"{steps} steps of {plan.recipe.effective_batch_size}"),
        (plan.tokens, f"about {count(plan.tokens)} tokens")) if value is not None]
    unknown = [name for value, name in ((plan.rows, "rows"), (plan.steps, "steps"), (plan.tokens, "tokens"))
               if value is None]
    if unknown:
        known.append(f"{' and '.join(unknown)} known at launch")
    return ", ".join(known)
