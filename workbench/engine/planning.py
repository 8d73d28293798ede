"""A plan: what a recipe would do on this machine, before anything is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from workbench.engine.catalog.architecture import Architecture, architecture_from_config
from workbench.engine.catalog.models import ModelSource, nearest_models, resolve_model
from workbench.engine.catalog.trained import start_faults
from workbench.engine.data.facts import DatasetFacts, TokenFacts, dataset_facts, token_facts, trained_rows
from workbench.engine.data.findings import how_to_pass, refused
from workbench.engine.data.sources import DataError
from workbench.engine.errors import InputError
from workbench.engine.evaluation import evaluation_faults
from workbench.engine.figures import count
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.hardware.host import HostSnapshot
from workbench.engine.hardware.named import gpu_faults
from workbench.engine.memory.calibration import Throughput, calibrated, throughput, training_seconds
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.comparison import Comparison, case_for, compare_tunings
from workbench.engine.memory.estimate import MemoryEstimate, estimate_memory
from workbench.engine.memory.fitting import MOST_TOKENS
from workbench.engine.memory.suggestions import Suggestion, suggest
from workbench.engine.memory.terms import CUDA_CONTEXT
from workbench.engine.objective_checks import (
    generations,
    objective_problems,
    planned_steps,
    reward_parameters,
    too_few_prompts,
)
from workbench.engine.recipe import Recipe
from workbench.engine.runs.history import History, read_history


@dataclass(frozen=True)
class PlanProblem:
    """What keeps a recipe from running: the dotted `field` it concerns, a sentence, a hint."""

    field: str
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Plan:
    """Everything the Plan screen shows. None where something is not known; `problems` and `warnings` say why."""

    recipe: Recipe
    model: ModelSource | None
    architecture: Architecture | None
    comparison: Comparison | None
    gpus: tuple[Gpu, ...]
    rows: int | None
    """Examples of an epoch, those for evaluation among them; an estimate unless `rows_exact`."""
    steps: int | None
    tokens: int | None
    """Tokens the run will see, chat template not counted."""
    warnings: tuple[str, ...]
    problems: tuple[PlanProblem, ...]
    rows_exact: bool = True
    dataset_fingerprint: str | None = None
    throughput: Throughput | None = None
    """What a like run of this home measured; None until there is one."""
    seconds: float | None = None
    """Training time at that pace, samples and evaluations left out."""
    suggestions: tuple[Suggestion, ...] = ()
    """What would make the recipe's tuning fit on the GPU with the most free memory, where it does not yet."""
    stages: tuple["Plan", ...] = ()
    """Of a pipeline: the plan of every stage. What stands beside it is the first one's, but the problems of all."""

    @property
    def peak_bytes(self) -> int | None:
        """The estimated peak of the recipe's own tuning, of a pipeline the largest; None where none is known."""
        if self.stages:
            return max((peak for stage in self.stages if (peak := stage.peak_bytes) is not None), default=None)
        columns = self.comparison.tunings if self.comparison else ()
        return next((c.estimate.peak_bytes for c in columns if c.tuning == self.recipe.tuning and c.estimate), None)

    @property
    def size(self) -> tuple[str | None, str | None]:
        """(rows, steps) in words, about so many where they are estimated; None where they are not known."""
        estimated = not self.rows_exact
        rows, steps = (None if number is None else f"about {count(number)}" if estimated else f"{number:,}"
                       for number in (self.rows, self.steps))
        return rows, f"{self.steps:,}" if self.recipe.training.max_steps > 0 else steps

    def to_json(self) -> dict[str, Any]:
        """As `workbench plan --json` shows it."""
        tunings: dict[str, Any] = {}
        for column in self.comparison.tunings if self.comparison else ():
            if column.estimate is None:
                tunings[column.tuning] = {"error": column.problem, "fits": "unknown"}
            else:
                devices = [
                    {"name": d.name, "index": d.index, "free": d.free_bytes, "fits": d.fit,
                     "largest_batch": d.largest_batch, "longest_max_length": d.longest_max_length}
                    for d in column.devices
                ]
                tunings[column.tuning] = {**asdict(column.estimate), "fits": column.fit, "devices": devices}
        stages = {"stages": [stage.to_json() for stage in self.stages]} if self.stages else {}
        return {
            "name": self.recipe.name, "peak_bytes": self.peak_bytes, **stages,
            "model": self.recipe.model, "parameters": self.architecture.parameters if self.architecture else None,
            "objective": self.recipe.objective, "tuning": self.recipe.tuning,
            "gpus": [{"name": gpu.name, "total": gpu.total_bytes, "free": gpu.free_bytes} for gpu in self.gpus],
            "tunings": tunings, "rows": self.rows, "rows_exact": self.rows_exact, "steps": self.steps,
            "tokens": self.tokens,
            "tokens_per_second": self.throughput.tokens_per_second if self.throughput else None,
            "seconds": self.seconds, "measured_in": self.throughput.run_id if self.throughput else None,
            "warnings": list(self.warnings),
            "suggestions": [
                {"changes": dict(s.changes), "words": s.words, "peak_bytes": s.peak_bytes, "fits": s.fit}
                for s in self.suggestions
            ],
            "problems": [asdict(problem) for problem in self.problems],
        }


def memory_case(recipe: Recipe, on_cpu: bool = False, base_dir: Path | None = None) -> MemoryCase:
    """The recipe as the estimate sees it: on a GPU with bfloat16, or on the CPU where `auto` means float32.

    `base_dir` is where the folders of reward models start.
    """
    training, lora = recipe.training, recipe.lora
    quantization = "none"
    if recipe.tuning == "qlora":
        quantization = "int8" if recipe.quantization.bits == 8 else \
            "nf4-double" if recipe.quantization.double_quantization else "nf4"
    autocast = not on_cpu if training.bf16 is None else training.bf16
    dtype = training.dtype if training.dtype != "auto" else "float32" if on_cpu else "bfloat16"
    return MemoryCase(
        objective=recipe.objective, tuning=recipe.tuning, lora_r=lora.lora_r, lora_dropout=lora.lora_dropout,
        target_modules=lora.target_modules, quantization=quantization,
        # The worker casts adapters of quantised bases back: bf16 second moments cannot decay, and little is learned.
        adapter_dtype="float32",
        per_device_train_batch_size=training.per_device_train_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps, max_length=training.max_length,
        gradient_checkpointing=training.gradient_checkpointing, dtype=dtype,
        mixed_precision="bf16" if autocast else "no", optim=training.optim,
        attn_implementation=training.attn_implementation, packing=training.packing, algorithm=recipe.rlhf.algorithm,
        beta=recipe.rlhf.beta, num_generations=generations(recipe),
        max_completion_length=recipe.rlhf.max_completion_length,
        reward_parameters=reward_parameters(recipe, base_dir))


def estimate_recipe(recipe: Recipe, base_dir: Path | None) -> MemoryEstimate:
    """The estimate of a recipe's own tuning. Raises InputError where none can be made."""
    return estimate_memory(architecture_from_config(resolve_model(recipe.model, base_dir).config),
                           memory_case(recipe, base_dir=base_dir))


def make_plan(recipe: Recipe, base_dir: Path | None, gpus: Sequence[Gpu], host: HostSnapshot) -> Plan:
    """Plan a recipe. Never raises for what the user can mend: that is in `problems`. Reads the dataset's file, and
    what past runs of this home measured. Of a pipeline every stage is planned."""
    from workbench.engine.pipeline_plan import plan_stages  # made of the plans that are made here

    history = read_history()
    if recipe.stages:
        return plan_stages(recipe, base_dir, lambda stage: _informed(_make_plan(stage, base_dir, gpus, host), history))
    return _informed(_make_plan(recipe, base_dir, gpus, host), history)


def _informed(plan: Plan, history: History) -> Plan:
    """The plan with this machine's bands, and with its pace where a like run was measured."""
    recipe, like, seconds = plan.recipe, None, None
    if plan.architecture is not None:
        device = plan.gpus[0].name if plan.gpus and not recipe.hardware.use_cpu else "cpu"
        like = throughput(history, recipe, plan.architecture.parameters, plan.dataset_fingerprint, device)
    if like is not None:
        seconds = training_seconds(like, recipe, plan.steps, plan.tokens)
    comparison = plan.comparison and calibrated(plan.comparison, history, plan.gpus)
    return replace(plan, comparison=comparison, throughput=like, seconds=seconds)


def _make_plan(recipe: Recipe, base_dir: Path | None, gpus: Sequence[Gpu], host: HostSnapshot) -> Plan:
    problems: list[PlanProblem] = []
    warnings: list[str] = []
    model, architecture = _model(recipe, base_dir, problems, warnings)
    problems += [PlanProblem(*problem) for problem in objective_problems(recipe, base_dir)]
    problems += [PlanProblem(*fault) for fault in (*evaluation_faults(recipe), *gpu_faults(recipe, gpus))]
    facts = _dataset(recipe, base_dir, problems, warnings)
    tokens = token_facts(facts, model.path if model else None) if facts else None
    rows = None if facts is None or facts.rows is None else trained_rows(recipe.dataset, facts.rows)
    if rows is not None and facts and facts.report.exact:
        problems += [PlanProblem(*fault) for fault in too_few_prompts(recipe, rows)]
    steps = planned_steps(recipe, rows)
    comparison, suggestions = None, tuple[Suggestion, ...]()
    if architecture is not None and model is not None:
        case = memory_case(recipe, base_dir=base_dir)
        comparison = compare_tunings(architecture, case, gpus, host.ram_available_bytes, _longest_row(model.config))
        suggestions = _suggestions(case_for(case, recipe.tuning), architecture, gpus)
        _warn_of_cpu(recipe, base_dir, architecture, gpus, host, warnings)
    if tokens and tokens.longest > recipe.training.max_length:
        warnings.append(f"The longest row has {tokens.longest:,} tokens; max_length cuts it at "
                        f"{recipe.training.max_length:,}.")
    return Plan(
        recipe=recipe, model=model, architecture=architecture, comparison=comparison, gpus=tuple(gpus),
        rows=facts.rows if facts else None, steps=steps, tokens=_planned_tokens(recipe, facts, tokens, steps),
        warnings=tuple(warnings), problems=tuple(problems), rows_exact=facts is None or facts.report.exact,
        dataset_fingerprint=facts.fingerprint if facts else None,
        suggestions=suggestions)


def _longest_row(config: Mapping[str, Any]) -> int:
    """Tokens that the model has positions for, as far as its config says."""
    nested = config.get("text_config")
    for part in (config, nested if isinstance(nested, Mapping) else {}):
        positions = part.get("max_position_embeddings")
        if isinstance(positions, int) and positions > 0:
            return positions
    return MOST_TOKENS


def _suggestions(case: MemoryCase, architecture: Architecture, gpus: Sequence[Gpu]) -> tuple[Suggestion, ...]:
    free = max((gpu.free_bytes for gpu in gpus if gpu.free_bytes is not None), default=None)
    if free is None:
        return ()
    try:
        return suggest(architecture, case, free - CUDA_CONTEXT)
    except InputError:
        return ()  # the comparison's column says why


def _planned_tokens(recipe: Recipe, facts: DatasetFacts | None, tokens: TokenFacts | None,
                    steps: int | None) -> int | None:
    if facts is None or facts.rows is None or tokens is None:
        return None
    by_epochs = tokens.mean * trained_rows(recipe.dataset, facts.rows) * recipe.training.num_train_epochs
    if steps is None or recipe.training.max_steps <= 0:
        return round(by_epochs)
    return round(tokens.mean * recipe.effective_batch_size * steps)


def _model(recipe: Recipe, base_dir: Path | None, problems: list[PlanProblem],
           warnings: list[str]) -> tuple[ModelSource | None, Architecture | None]:
    try:
        model = resolve_model(recipe.model, base_dir)
        faults = start_faults(model, recipe)
    except InputError as error:
        problems.append(PlanProblem("model", error.message, error.hint))
        return None, None
    problems += [PlanProblem(*fault) for fault in faults]
    if model.kind == "hub":
        warnings.append(f"{model.name} is neither on this disk nor in the catalogue: it is looked up on the Hub at "
                        f"launch, and its memory is not known before. {nearest_models(model.name)}")
        return model, None
    if model.path is None:
        warnings.append(f"{model.name} is not on this disk: its weights are downloaded from the Hub at launch.")
    try:
        return model, architecture_from_config(model.config)
    except InputError as error:
        warnings.append(f"Memory is not estimated in closed form: {error.message} A rehearsal counts it: ctrl+r, or "
                        "`workbench rehearse RECIPE`.")
        return model, None


def _dataset(recipe: Recipe, base_dir: Path | None, problems: list[PlanProblem],
             warnings: list[str]) -> DatasetFacts | None:
    if recipe.dataset.streaming and recipe.training.max_steps < 1:
        problems.append(PlanProblem("dataset.streaming", "Rows that are read while training have no known end.",
                                    "Set training.max_steps, or leave dataset.streaming out."))
    if recipe.dataset.streaming and len(recipe.dataset.parts) > 1 and not any(p.weight for p in recipe.dataset.parts):
        problems.append(PlanProblem("dataset.path", "Streamed parts without weights follow each other: the steps "
                                    "may end before the second begins.", "Give each part a weight."))
    try:
        facts = dataset_facts(recipe, base_dir)
    except DataError as error:
        problems.append(PlanProblem(error.field, error.message, error.hint))
        return None
    report = facts.report
    stopping = refused(report.findings, recipe.data)
    way_out = f" {how_to_pass(stopping, recipe.data)}"
    for finding in stopping:
        problems.append(PlanProblem("dataset.path", finding.message, f"{finding.hint or ''}{way_out}".strip()))
        way_out = ""  # said once
    warnings += [finding.message for finding in report.findings if finding not in stopping]
    warnings += [f"{name} is on the Hub: its rows are counted at launch." for name in facts.remote]
    if not report.exact:
        warnings.append(f"The data was read for {report.bytes_read / 2**20:.0f} MiB: its rows are estimated from them. "
                        "All of it is checked at launch.")
    return facts


def _warn_of_cpu(recipe: Recipe, base_dir: Path | None, architecture: Architecture, gpus: Sequence[Gpu],
                 host: HostSnapshot, warnings: list[str]) -> None:
    if gpus and not recipe.hardware.use_cpu:
        return
    try:
        case = memory_case(recipe, on_cpu=True, base_dir=base_dir)
        need = estimate_memory(architecture, case_for(case, recipe.tuning)).peak_bytes
    except InputError:
        return
    if need > host.ram_available_bytes:
        warnings.append(f"This run would train on the CPU in about {need / 1024**3:.1f} GiB, and "
                        f"{host.ram_available_bytes / 1024**3:.1f} GiB of RAM are free.")
