"""A recipe rehearsed: traces of two depths for each group of blocks, and what the whole model would take."""

import logging
import warnings
from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import logging as transformers_logging

from workbench.engine.memory.terms import CUBLAS_WORKSPACES
from workbench.engine.recipe import Recipe
from workbench.worker.rehearsal.extrapolate import CutTrace, Extrapolation, UnevenError
from workbench.worker.rehearsal.job import Progress
from workbench.worker.rehearsal.model import Blocks, find_blocks, read_config
from workbench.worker.rehearsal.steps import BACKWARD, BEFORE, FORWARD
from workbench.worker.rehearsal.storages import COMPONENTS, Segment
from workbench.worker.rehearsal.trace import build_model, trace

SHALLOW, DEEP = 2, 4
"""Blocks of a group in the two traces."""


def rehearse_recipe(recipe: Recipe, config: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Peak, moment, components and counts, on one GPU with bfloat16. Raises InputError for what cannot be built."""
    _quieten()
    recipe = on_gpu(recipe)
    read = read_config(config)
    progress("building the model without its weights", 0.4)
    model = build_model(recipe, read)
    blocks = find_blocks(model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    del model
    segments, trainable, depths = _segments(recipe, read, blocks, progress)
    return {"parameters": parameters, "trainable_parameters": trainable, "depths_traced": depths,
            **result_of(recipe, segments, len(blocks.groups) if blocks else 0)}


def on_gpu(recipe: Recipe) -> Recipe:
    """The recipe as it runs on one GPU with bfloat16; its rows are token ids, all of them learned."""
    training = recipe.training
    update = {"dtype": "bfloat16" if training.dtype == "auto" else training.dtype,
              "bf16": True if training.bf16 is None else training.bf16, "assistant_only_loss": False}
    return recipe.model_copy(update={"training": training.model_copy(update=update)})


def _segments(recipe: Recipe, config: PreTrainedConfig, blocks: Blocks | None,
              progress: Progress) -> tuple[list[Segment], int, list[int]]:
    """The whole model's segments, its trainable parameters, and the depths that were traced."""
    depth = config.get_text_config().num_hidden_layers
    share = 0.5
    if blocks is not None:
        shallow = [min(count, SHALLOW) for count in blocks.counts]
        cuts = {None: shallow} | {group: [*shallow[:group], min(DEEP, count), *shallow[group + 1:]]
                                  for group, count in enumerate(blocks.counts) if count > SHALLOW}
        if max(map(sum, cuts.values())) < depth:
            traces: dict[int | None, CutTrace] = {}
            for done, (group, per_group) in enumerate(cuts.items()):
                kept = blocks.keep(per_group)
                progress(f"training on {len(kept)} of {depth} layers", 0.5 + 0.5 * done / len(cuts))
                traces[group] = CutTrace(*_trace(recipe, config, kept, blocks))
            deeper = {group: found for group, found in traces.items() if group is not None}
            extrapolation = Extrapolation(traces[None], deeper, blocks.groups)
            try:
                return (extrapolation.segments(), extrapolation.trainable_parameters(),
                        sorted({len(found.groups) for found in traces.values()}))
            except UnevenError:
                share = 0.9
    progress(f"training on all {depth} layers", share)
    traced = trace(recipe, config)
    return traced.segments, traced.trainable_parameters, [depth]


def _trace(recipe: Recipe, config: PreTrainedConfig, kept: tuple[int, ...],
           blocks: Blocks) -> tuple[list[Segment], tuple[int, ...], int]:
    traced = trace(recipe, config, kept)
    return traced.segments, tuple(blocks.groups[place] for place in kept), traced.trainable_parameters


def result_of(recipe: Recipe, segments: list[Segment], depth: int) -> dict[str, Any]:
    """The peak of a model of so many blocks, its moment and components, and what is alive between steps."""
    peak = max(segments, key=lambda segment: sum(segment.peak))
    components = dict(zip(COMPONENTS, peak.peak, strict=True))
    components["workspace"] += CUBLAS_WORKSPACES
    between_steps = [segment for segment in segments if segment.name == BEFORE][-1]
    return {"peak_bytes": sum(components.values()), "peak_moment": _moment(recipe, peak, depth),
            "static_bytes": sum(between_steps.start) + CUBLAS_WORKSPACES, "components": components}


def _moment(recipe: Recipe, peak: Segment, depth: int) -> str:
    if peak.layer is None:
        return peak.name
    if peak.name == BACKWARD and recipe.training.gradient_checkpointing:
        return "the backward pass of layer recompute"
    which = {0: "the first", depth - 1: "the last"}.get(peak.layer, f"the {peak.layer + 1}th")
    return f"{peak.name} of {which} block" if peak.name in (FORWARD, BACKWARD) else peak.name


def _quieten() -> None:
    """The libraries' warnings concern a training run, not its rehearsal."""
    warnings.filterwarnings("ignore")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger().setLevel(logging.ERROR)
    from datasets import disable_progress_bars

    disable_progress_bars()
