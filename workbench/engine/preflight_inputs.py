"""What a planned run reads: its dataset and its model, on this disk or on the Hub."""

from collections.abc import Iterator
from pathlib import Path

from workbench.engine.catalog.completeness import (
    IncompleteModelError,
    check_model_files,
    refuse_code_settings,
    refuse_own_code,
)
from workbench.engine.catalog.models import ModelSource
from workbench.engine.catalog.safetensors_file import stored_tensors
from workbench.engine.data.sources import resolve_dataset
from workbench.engine.errors import InputError
from workbench.engine.figures import gib
from workbench.engine.hub import HubAnswer
from workbench.engine.planning import Plan
from workbench.engine.preflight_check import PreflightCheck, Surroundings
from workbench.engine.runs.artefacts import ADAPTER_WEIGHTS


def dataset(stage: Plan, base_dir: Path | None, around: Surroundings) -> Iterator[PreflightCheck]:
    """Whether every part of the data can be read, by what the plan found and what the Hub says."""
    wrong = [problem for problem in stage.problems if problem.field.startswith(("dataset", "data."))]
    for problem in wrong:
        yield PreflightCheck("dataset", "problem", problem.message, problem.hint)
    if wrong:
        return
    settings = stage.recipe.dataset
    references = [part.path for part in settings.parts] + ([settings.eval_path] if settings.eval_path else [])
    for reference in dict.fromkeys(references):
        try:
            source = resolve_dataset(reference, base_dir)
        except InputError as error:
            yield PreflightCheck("dataset", "problem", error.message, error.hint)
            continue
        if source.kind == "hub":
            yield _hub_check(around.ask_hub(source.name, "dataset"), may_be_cached=True)
        else:
            yield PreflightCheck("dataset", "ok", f"{source.name} can be read.")


def _hub_check(answer: HubAnswer, may_be_cached: bool = False) -> PreflightCheck:
    """A dataset that was downloaded before lies in a cache that only its library can read: no problem before that."""
    if answer.status == "ok":
        return PreflightCheck("hub", "ok", answer.message)
    unsure = may_be_cached and answer.status in ("offline", "busy", "unreachable")
    return PreflightCheck("hub", "warning" if unsure else "problem", answer.message, answer.fix)


def model(stage: Plan, around: Surroundings) -> Iterator[PreflightCheck]:
    """Whether the model is whole and brings no code, or the Hub will give it."""
    for problem in (one for one in stage.problems if one.field == "model"):
        yield PreflightCheck("model", "problem", problem.message, problem.hint)
    if (source := stage.model) is None:
        return
    try:
        yield from _model_files(source, around)
    except InputError as error:
        yield PreflightCheck("model", "problem", error.message, error.hint)


def _model_files(source: ModelSource, around: Surroundings) -> Iterator[PreflightCheck]:
    """Raises InputError."""
    refuse_code_settings(source.config, source.name)
    # An adapter's own tokenizer has the template that it learned with, and comes first.
    tokenizer = source.adapter is None or not (source.adapter / "tokenizer_config.json").is_file()
    if source.adapter is not None:
        refuse_own_code(source.adapter, source.label)
        stored_tensors(source.adapter / ADAPTER_WEIGHTS)
    if source.path is None:
        yield _hub_check(around.ask_hub(source.name, "model"))
        return
    try:
        found = check_model_files(source.path, source.name, tokenizer=tokenizer)
    except IncompleteModelError as error:
        if source.kind != "cache":
            raise
        answer = around.ask_hub(source.name, "model")
        if answer.status != "ok":
            raise InputError(error.message, answer.fix) from None
        yield PreflightCheck("hub", "ok", f"{error.message} The rest is downloaded when the run starts.")
        return
    unhashed = f"; {gib(found.unhashed_bytes)} are too much to be compared with their hashes now" \
        if found.unhashed_bytes else ""
    yield PreflightCheck("model", "ok", f"{source.label} is complete: {found.tensors} tensors, "
                         f"{gib(found.weight_bytes)}, in {len(found.files)} file{'s'[:len(found.files) != 1]}"
                         f"{unhashed}.")
