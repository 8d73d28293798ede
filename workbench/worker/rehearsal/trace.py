"""One trace: a recipe's trainer on a model of so many blocks, its storages followed through two steps."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast, Trainer

from workbench.engine.errors import InputError
from workbench.engine.recipe import Recipe
from workbench.engine.text import one_line
from workbench.worker.objectives import needs_reference, objective_module
from workbench.worker.rehearsal.cuda import as_on_cuda, reading_masks
from workbench.worker.rehearsal.kernels import kernel_workspaces, scratch_operators
from workbench.worker.rehearsal.model import Blocks, build_on_meta, cut, fill, find_blocks
from workbench.worker.rehearsal.steps import Marks, prepare, run_steps
from workbench.worker.rehearsal.storages import Segment, StorageTracker


@dataclass(frozen=True)
class Traced:
    """The segments of two training steps, in order, and the parameters that were trained."""

    segments: list[Segment]
    trainable_parameters: int


@dataclass(frozen=True)
class Platform:
    """What stands for the machine: fake tensors or real ones; a GPU's ways or the CPU's own.

    `padded`: whether the rows of fake batches differ in length; None: where there are several.
    """

    fake: bool = True
    cuda: bool = True
    padded: bool | None = None


def trace(recipe: Recipe, config: PreTrainedConfig, kept: tuple[int, ...] | None = None,
          platform: Platform | None = None) -> Traced:
    """Two training steps on the blocks at positions `kept` (None: all of them)."""
    platform = platform or Platform()
    model = build_model(recipe, config)
    blocks = find_blocks(model)
    if kept is not None and blocks is not None:
        cut(model, blocks, kept)
    module = objective_module(recipe.objective)
    extra = {}
    if needs_reference(recipe):
        extra["reference"] = _reference(recipe, config, blocks, kept)
    with tempfile.TemporaryDirectory() as folder:
        rows = Dataset.from_list([module.EXAMPLE] * 2)
        try:
            trainer = module.build_trainer(recipe, model, stand_in_tokenizer(), rows, None, torch.device("cpu"), folder,
                                           [], **extra)
        except ValueError as error:
            raise InputError(f"The trainer refuses this recipe: {one_line(str(error), 300)}") from error
        return _followed(trainer, module, recipe, [model, *extra.values()], blocks, platform)


def _reference(recipe: Recipe, config: PreTrainedConfig, blocks: Blocks | None,
               kept: tuple[int, ...] | None) -> PreTrainedModel:
    model = build_model(recipe, config)
    if kept is not None and blocks is not None:
        cut(model, blocks, kept)
    # trl moves it to the device, and what is on `meta` cannot be moved.
    model.to = lambda *arguments, **keywords: model
    return model


def build_model(recipe: Recipe, config: PreTrainedConfig) -> PreTrainedModel:
    """The recipe's model on `meta`, not wrapped yet."""
    return build_on_meta(config, dtype=getattr(torch, recipe.training.dtype),
                         attn_implementation=recipe.training.attn_implementation,
                         quantization=recipe.quantization if recipe.tuning == "qlora" else None,
                         rewards=recipe.objective == "reward")


def _followed(trainer: Trainer, module: ModuleType, recipe: Recipe, models: list[PreTrainedModel],
              blocks: Blocks | None, platform: Platform) -> Traced:
    batch = module.worst_case_batch(recipe, trainer)
    rollout = None
    if hasattr(module, "rollout"):
        rollout = partial(module.rollout, recipe, trainer)
        # The batch is what the trainer's own rollouts would leave: it must not roll out again.
        trainer._prepare_inputs = lambda inputs: inputs
    scored = module.scored_positions(recipe, trainer) if hasattr(module, "scored_positions") else None
    tracker = StorageTracker(platform.fake, kernel_workspaces() if platform.cuda else None, scratch_operators(), scored)
    with ExitStack() as stack:
        if platform.fake:
            mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            batch = {name: mode.from_tensor(value) if isinstance(value, torch.Tensor) else value
                     for name, value in batch.items()}
            padded = len(next(iter(batch.values()))) > 1 if platform.padded is None else platform.padded
            stack.enter_context(reading_masks(padded, recipe.training.packing))
        if platform.cuda:
            stack.enter_context(as_on_cuda())
        whole = [trainer.model, *models[1:]]
        for model in whole:
            fill(model)
        prepare(trainer, platform.cuda)
        stacks = [model.get_submodule(blocks.name) for model in models] if blocks else []
        marks = Marks(tracker, trainer.model_wrapped, stacks)
        with tracker:
            tracker.add((tensor for model in whole for tensor in _tensors(model)), "weights")
            tracker.add((value for value in batch.values() if isinstance(value, torch.Tensor)), "activations")
            run_steps(trainer, batch, tracker, marks, rollout)
        marks.remove()
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    return Traced(tracker.segments, trained)


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """All that a model holds: parameters, buffers, and what bitsandbytes keeps beside its packed weights."""
    yield from model.buffers()
    for parameter in model.parameters():
        yield parameter
        for beside in (getattr(parameter, "quant_state", None), getattr(parameter, "SCB", None)):
            yield from _state_tensors(beside)


def _state_tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif state is not None:
        for value in (state.absmax, state.code, state.offset):
            yield from _state_tensors(value)
        if state.state2 is not None:
            yield from _state_tensors(state.state2)


def stand_in_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of three words: trainers ask for one, and a rehearsal's rows are token ids already."""
    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
                                   bos_token="<eos>")
