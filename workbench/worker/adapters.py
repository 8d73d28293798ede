"""Adapters from disk: checked before anything of them is loaded, put on their base, trained on, or merged into it."""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import PreTrainedModel, Trainer

from workbench.engine.catalog.models import ModelSource
from workbench.engine.catalog.safetensors_file import stored_tensors
from workbench.engine.catalog.trained import adapter_settings, is_reward_model, start_faults
from workbench.engine.errors import InputError, RunError
from workbench.engine.recipe import Recipe
from workbench.engine.runs.artefacts import ADAPTER_CONFIG, ADAPTER_WEIGHTS, run_of
from workbench.engine.runs.manifest import MANIFEST, verify
from workbench.engine.runs.store import read_json
from workbench.worker.objectives.common import lora_config

# Settings of a LoRA adapter that make peft import modules or wrap classes by name.
_CODE_KEYS = ("megatron_config", "auto_mapping", "runtime_config")


def check_artefact(source: ModelSource) -> None:
    """Raise RunError where the files that training starts from are not as their manifest says, InputError for an
    adapter that would run code. What has no manifest was not written by the workbench."""
    for directory in (source.adapter, source.path if source.kind == "folder" else None):
        if directory is None or not _is_ours(directory):
            continue
        if (fault := verify(directory)) is not None:
            raise RunError(f"{directory} is not loaded: {fault}.", "Start from another checkpoint: RUN:step.")
    if source.adapter is not None:
        refuse_strange_adapter(source.adapter)


def _is_ours(directory: Path) -> bool:
    return run_of(directory) is not None or isinstance(read_json(directory / MANIFEST).get("files"), dict)


def refuse_strange_adapter(adapter: Path) -> None:
    """Raise InputError for an adapter that is not LoRA, names code to run, is pickled, cut or damaged."""
    adapter_settings(adapter)
    config = read_json(adapter / ADAPTER_CONFIG)
    if named := [key for key in _CODE_KEYS if config.get(key)]:
        raise InputError(f"{adapter / ADAPTER_CONFIG} sets {named[0]}, which names code to run, and is not loaded.")
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise InputError(f"{adapter} has no {ADAPTER_WEIGHTS}.",
                         "Pickled weights (.bin) can run code when loaded and are not read; convert them first.")
    stored_tensors(adapter / ADAPTER_WEIGHTS)


def put_on(base: PreTrainedModel, adapter: Path, title: str, config: LoraConfig | None = None,
           trainable: bool = False) -> PeftModel:
    """The base with a checked adapter on it. Raises RunError when the adapter lacks weights that the base needs."""
    model = PeftModel.from_pretrained(base, str(adapter), is_trainable=trainable, config=config)
    with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as weights:
        missing = set(get_peft_model_state_dict(model)) - set(weights.keys())
    if missing:
        raise RunError(f"The adapter {title} lacks {len(missing)} of its weights, {min(missing)} among them.",
                       "It was made for another model, or is incomplete.")
    return model


def start_from(base: PreTrainedModel, source: ModelSource, recipe: Recipe) -> PreTrainedModel | PeftModel:
    """What training begins with: the base as it is, with the source's adapter to be trained on, or, where every weight
    is trained, with that adapter merged into it. Raises InputError or RunError.

    A reward model after another objective's adapter begins with its weights, in an adapter of its own beside the head.
    """
    if source.adapter is None:
        return base
    if faults := start_faults(source, recipe):
        raise InputError(*faults[0][1:])
    found = LoraConfig.from_pretrained(str(source.adapter))
    found.lora_dropout = recipe.lora.lora_dropout
    if recipe.tuning == "full":
        # Without a task peft wraps any model: a head for scores has none of what a language model's wrapper asks for.
        found.task_type = None
        merged: PreTrainedModel = put_on(base, source.adapter, source.label, found).merge_and_unload()
        return merged.requires_grad_(True)
    if recipe.objective == "reward" and not is_reward_model(source):
        return _beside_a_head(base, source, recipe)
    return put_on(base, source.adapter, source.label, found, trainable=True)


def _beside_a_head(base: PreTrainedModel, source: ModelSource, recipe: Recipe) -> PeftModel:
    assert source.adapter is not None
    model = get_peft_model(base, lora_config(recipe))
    weights = load_file(source.adapter / ADAPTER_WEIGHTS)
    own = get_peft_model_state_dict(model)
    wanted = {name for name in own if ".lora_" in name}
    if missing := wanted - weights.keys():
        raise RunError(f"The adapter {source.label} lacks {len(missing)} of the weights, {min(missing)} among them, "
                       "that a reward model on the same base has.")
    set_peft_model_state_dict(model, {**own, **{name: weights[name] for name in wanted}})
    return model


class Beginning:
    """The weights that training begins with, kept while a trainer is built: trl (1.16) rounds the adapters of a
    quantised base to bfloat16, and makes the frozen reference of a model from the files that its base came from."""

    def __init__(self, model: PreTrainedModel | PeftModel, source: ModelSource) -> None:
        self._adapter = {name: parameter.detach().clone() for name, parameter in model.named_parameters()
                         if parameter.requires_grad} if isinstance(model, PeftModel) else {}
        self._merged = source.adapter is not None and not isinstance(model, PeftModel)

    def restore(self, trainer: Trainer) -> None:
        """Give the trainer's model, and its reference, what they are to begin with."""
        parameters = dict(trainer.model.named_parameters())
        with torch.no_grad():
            for name, value in self._adapter.items():
                parameters[name].data = value
        reference = getattr(trainer, "ref_model", None)
        if self._merged and reference is not None:
            trainer.accelerator.unwrap_model(reference).load_state_dict(trainer.model.state_dict())
