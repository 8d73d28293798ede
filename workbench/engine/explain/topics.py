"""The topics of `workbench explain`, and their answers for one model."""

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from workbench.engine.catalog.architecture import Architecture, architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.explain import quantization as quantisation
from workbench.engine.explain.document import Explanation, Section, Table, percent
from workbench.engine.explain.lora import example_section, lora_figures, lora_sections
from workbench.engine.explain.objectives import objective_figures, objective_sections
from workbench.engine.explain.weights import study_weights, weights_figures, weights_section
from workbench.engine.figures import count, gib
from workbench.engine.memory.case import MemoryCase, TuningName
from workbench.engine.memory.comparison import case_for
from workbench.engine.memory.estimate import estimate_memory
from workbench.engine.objectives import OBJECTIVES, ObjectiveId
from workbench.engine.planning import memory_case
from workbench.engine.recipe import Recipe
from workbench.engine.tuning import TUNINGS

TOPICS: tuple[str, ...] = (*TUNINGS, "quantization", *OBJECTIVES)
_TITLES = {"full": "Full fine-tuning", "lora": "LoRA: low-rank adapters",
           "qlora": "QLoRA: adapters on a quantised base", "quantization": "Quantisation"}


@dataclass(frozen=True, slots=True)
class Subject:
    """The model to explain on, and the settings that its figures are for.

    `architecture` is None where it is not known, `problem` says why; `folder` is None where there are no files.
    """

    name: str
    architecture: Architecture | None
    folder: Path | None
    case: MemoryCase
    problem: str | None = None

    def with_rank(self, r: int) -> "Subject":
        """The same with another LoRA rank."""
        return replace(self, case=replace(self.case, lora_r=r))


def subject_of(recipe: Recipe, base_dir: Path | None = None) -> Subject:
    """A recipe's model and settings. Raises InputError when there is no such model."""
    found = resolve_model(recipe.model, base_dir)
    case = memory_case(recipe)
    if found.kind == "hub":
        return Subject(found.name, None, None, case,
                       f"{found.name} is neither on this disk nor in the catalogue, so its shape is not known here.")
    try:
        return Subject(found.name, architecture_from_config(found.config), found.path, case)
    except InputError as error:
        return Subject(found.name, None, found.path, case, error.message)


def explain(topic: str, subject: Subject) -> Explanation:
    """Explain a topic on a model. Raises InputError for a topic that there is not, or targets the model has not."""
    if topic not in TOPICS:
        near = difflib.get_close_matches(topic, TOPICS, n=1)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"There is nothing to explain under {topic!r}.", f"{meant}Topics: {', '.join(TOPICS)}.")
    architecture = subject.architecture
    sections, figures = _of_topic(topic, subject)
    if architecture is None and subject.problem:
        sections.append(Section(subject.name, (subject.problem,)))
    title = _TITLES[topic] if topic in _TITLES else OBJECTIVES[_objective(topic)].title
    model = {"model": subject.name, "parameters": architecture.parameters if architecture else None}
    return Explanation(topic, title, tuple(sections), {**model, **figures})


def _of_topic(topic: str, subject: Subject) -> tuple[list[Section], dict[str, Any]]:
    if topic == "full":
        return _full(subject)
    if topic == "lora":
        return _lora(subject)
    if topic == "quantization":
        return _quantization(subject)
    if topic == "qlora":
        return _qlora(subject)
    objective = _objective(topic)
    return objective_sections(objective, subject.architecture, subject.name), objective_figures(objective)


def _full(subject: Subject) -> tuple[list[Section], dict[str, Any]]:
    idea = Section("The idea", (
        "Every weight moves. Each needs a gradient and, under AdamW, two moments beside it: that, not the weights "
        "themselves, is what fills the GPU. The saved model is as large as the base.",))
    architecture = subject.architecture
    if architecture is None:
        return [idea], {}
    modules = {kind: size for kind, size in architecture.parameters_by_module.items() if size}
    rows = [(kind, f"{size:,}", percent(size / architecture.parameters)) for kind, size in modules.items()]
    rows.append(("all of them", f"{architecture.parameters:,}", percent(1)))
    trained = Section(f"What is trained in {subject.name}",
                      (Table(("MODULE", "PARAMETERS", "SHARE"), tuple(rows), (1, 2)),))
    memory, figures = _memory(subject, architecture)
    return [idea, trained, memory], {"trainable_parameters": architecture.parameters, "modules": modules, **figures}


def _lora(subject: Subject) -> tuple[list[Section], dict[str, Any]]:
    example, r = example_section(), subject.case.lora_r
    architecture = subject.architecture
    if architecture is None:
        return [example], {}
    targets = subject.case.target_modules
    memory, figures = _memory(subject, architecture)
    return ([example, *lora_sections(architecture, subject.name, r, targets), memory],
            {**lora_figures(architecture, r, targets), **figures})


def _qlora(subject: Subject) -> tuple[list[Section], dict[str, Any]]:
    architecture = subject.architecture
    if architecture is None:
        return [example_section(), *quantisation.example_sections()[-1:]], quantisation.example_figures()
    r, targets = subject.case.lora_r, subject.case.target_modules
    memory, figures = _memory(subject, architecture)
    base = quantisation.base_section(architecture, subject.name)
    return ([base, *lora_sections(architecture, subject.name, r, targets), memory],
            {**lora_figures(architecture, r, targets), "base_bytes": quantisation.base_bytes(architecture), **figures})


def _quantization(subject: Subject) -> tuple[list[Section], dict[str, Any]]:
    sections, figures = quantisation.example_sections(), quantisation.example_figures()
    if subject.architecture is not None:
        sections.append(quantisation.base_section(subject.architecture, subject.name))
        figures["base_bytes"] = quantisation.base_bytes(subject.architecture)
    title = "On this model's own weights"
    if subject.folder is None:
        sections.append(Section(title, (f"The weights of {subject.name} are not on this disk.",)))
        return sections, figures
    try:
        study = study_weights(subject.folder)
    except InputError as error:
        sections.append(Section(title, (f"{error.message} {error.hint or ''}".strip(),)))
    else:
        sections.append(weights_section(study))
        figures["weights"] = weights_figures(study)
    return sections, figures


def _memory(subject: Subject, architecture: Architecture) -> tuple[Section, dict[str, Any]]:
    """The three tunings side by side, each at its own peak."""
    rows, figures = [], {}
    tunings: tuple[TuningName, ...] = get_args(TuningName)
    for tuning in tunings:
        try:
            estimate = estimate_memory(architecture, case_for(subject.case, tuning))
        except InputError as error:
            return Section("What that takes", (f"Memory is not estimated: {error.message}",)), {}
        parts = estimate.components
        figures[tuning] = {"peak_bytes": estimate.peak_bytes, "components": parts}
        rows.append((TUNINGS[tuning].title, count(estimate.trainable_parameters), gib(parts["weights"]),
                     gib(parts["gradients"]), gib(parts["optimizer"]), gib(estimate.peak_bytes)))
    header = ("TUNING", "TRAINED", "WEIGHTS", "GRADIENTS", "OPTIMIZER", "PEAK")
    case = subject.case
    return Section("What that takes", (
        Table(header, tuple(rows), (1, 2, 3, 4, 5)),
        f"At batch size {case.per_device_train_batch_size} and max_length {case.max_length:,}, {case.optim}; the peak "
        "also holds activations and workspace.")), {"tunings": figures}


def _objective(topic: str) -> ObjectiveId:
    return next(objective for objective in get_args(ObjectiveId) if objective == topic)
