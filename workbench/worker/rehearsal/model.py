"""The model without its weights: built on `meta`, cut to a few blocks, and given fake tensors once it is wrapped."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bitsandbytes
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from workbench.engine.errors import InputError
from workbench.engine.recipe import QuantizationSettings
from workbench.engine.text import one_line
from workbench.worker.loading import bitsandbytes_config


@dataclass(frozen=True)
class Blocks:
    """A model's decoder blocks: the group of each, by position. Blocks of one group cost the same."""

    name: str
    """Where the list of blocks is, as in named_modules()."""
    groups: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many blocks each group has."""
        return tuple(self.groups.count(group) for group in range(max(self.groups) + 1))

    def keep(self, per_group: Sequence[int]) -> tuple[int, ...]:
        """The positions of the first and last blocks of each group, so many of each group in all."""
        kept: list[int] = []
        for group, wanted in enumerate(per_group):
            places = [place for place, other in enumerate(self.groups) if other == group]
            first = min(-(-wanted // 2), len(places))
            last = min(wanted - first, len(places) - first)
            kept += places[:first] + places[len(places) - last:]
        return tuple(sorted(kept))


def read_config(config: dict[str, Any]) -> PreTrainedConfig:
    """transformers' configuration of a config.json. Raises InputError for an architecture it does not know."""
    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise InputError(f"transformers does not know the architecture {kind!r}, so it cannot be rehearsed.",
                         "Check `model_type` in its config.json, or a newer version of transformers.")
    fields = {name: value for name, value in config.items() if name not in ("model_type", "quantization_config")}
    made = AutoConfig.for_model(kind, **copy.deepcopy(fields))
    # Catalogue configs name no special tokens, and a class's default may lie outside the vocabulary.
    text = made.get_text_config()
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if isinstance(value := getattr(text, name, None), int) and value >= text.vocab_size:
            setattr(text, name, None)
    return made


def build_on_meta(config: PreTrainedConfig, *, dtype: torch.dtype, attn_implementation: str,
                  quantization: QuantizationSettings | None = None, rewards: bool = False) -> PreTrainedModel:
    """The model class of a configuration, on `meta`; `rewards` asks for a head with one score in place of logits."""
    config = copy.deepcopy(config)
    kind = AutoModelForCausalLM
    if rewards:
        config.num_labels = 1
        kind = AutoModelForSequenceClassification
    # flash-attn cannot be installed without a GPU, and transformers asks for it at once.
    flash = attn_implementation == "flash_attention_2"
    try:
        with torch.device("meta"):
            model: PreTrainedModel = kind.from_config(config, dtype=dtype,
                                                      attn_implementation="sdpa" if flash else attn_implementation)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        if "does not support an attention implementation" in str(error):
            raise InputError(f"transformers' {config.model_type} models cannot use {attn_implementation} attention.",
                             "Set training.attn_implementation to eager.") from error
        raise InputError(f"transformers cannot build this {config.model_type} model: {one_line(str(error), 200)}"
                         ) from error
    if flash:
        model.config._attn_implementation = attn_implementation
        model.config.get_text_config()._attn_implementation = attn_implementation
    if quantization is not None:
        _quantise(model, quantization, dtype, rewards)
    # As a model that was loaded onto one device.
    model.hf_device_map = {"": "cpu"}
    return model


def _quantise(model: PreTrainedModel, settings: QuantizationSettings, dtype: torch.dtype, rewards: bool) -> None:
    """Put bitsandbytes' layers in, as transformers does before it reads the weights."""
    from transformers.quantizers.auto import AutoHfQuantizer

    quantizer = AutoHfQuantizer.from_config(bitsandbytes_config(settings, dtype, rewards), pre_quantized=False)
    default = torch.get_default_dtype()
    # The layers are made of the default type. What is loaded into them is `dtype`, and so is what they dequantise to.
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            quantizer.preprocess_model(model=model, dtype=dtype, device_map={"": "cpu"}, checkpoint_files=[])
    finally:
        torch.set_default_dtype(default)
    quantizer.postprocess_model(model)
    model.hf_quantizer = quantizer


def find_blocks(model: nn.Module) -> Blocks | None:
    """The list of decoder blocks, grouped by what they are made of; None where there is no such list."""
    config = model.config.get_text_config()
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers:
            kinds: list[Any] = []
            groups = []
            for place, block in enumerate(module):
                kind = _kind(block, config, place)
                if kind not in kinds:
                    kinds.append(kind)
                groups.append(kinds.index(kind))
            return Blocks(name, tuple(groups))
    return None


def _kind(block: nn.Module, config: PreTrainedConfig, place: int) -> Any:
    modules = tuple((name, type(module).__name__) for name, module in block.named_modules())
    shapes = tuple((name, tuple(parameter.shape)) for name, parameter in block.named_parameters())
    settings = tuple(sorted(_settings(block).items()))
    of_config = tuple(str(value[place]) for _, value in _lists(config))
    return modules, shapes, settings, of_config


def _settings(block: nn.Module) -> dict[str, Any]:
    """Plain values that set a block's modules apart, its position aside: sliding windows, flags."""
    return {f"{name}.{key}": value for name, module in block.named_modules() for key, value in vars(module).items()
            if isinstance(value, (bool, int, str, float)) and key not in ("layer_idx", "training", "layer_id")
            and not key.startswith("_")}


def _lists(config: PreTrainedConfig) -> list[tuple[str, Any]]:
    """A configuration's fields with one value per block."""
    return [(name, value) for name, value in sorted(vars(config).items())
            if isinstance(value, (list, tuple)) and len(value) == config.num_hidden_layers]


def cut(model: PreTrainedModel, blocks: Blocks, kept: Sequence[int]) -> None:
    """Leave only the blocks at these positions."""
    config = model.config.get_text_config()
    for name, value in _lists(config):
        setattr(config, name, [value[place] for place in kept])
    config.num_hidden_layers = len(kept)
    modules = model.get_submodule(blocks.name)
    left = [modules[place] for place in kept]
    parent, _, attribute = blocks.name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.ModuleList(left))
    for place, block in enumerate(left):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place


def fill(model: nn.Module) -> None:
    """Put tensors on the CPU in place of those on `meta`, tied ones once; bitsandbytes' weights are quantised.

    Under FakeTensorMode they are fake; without it they are real, and zero.
    """
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, old in module._parameters.items():
            if old is not None and old.device.type == "meta":
                if id(old) not in made:
                    made[id(old)] = _filled(old)
                module._parameters[name] = made[id(old)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)
        # Rotary embeddings keep a second reference to a buffer.
        if hasattr(module, "original_inv_freq") and "inv_freq" in module._buffers:
            module.original_inv_freq = module._buffers["inv_freq"]


def _filled(old: nn.Parameter) -> nn.Parameter:
    data = torch.zeros(old.shape, dtype=old.dtype)
    if isinstance(old, bitsandbytes.nn.Params4bit):
        return _quantised_to_4_bits(old, data)
    if isinstance(old, bitsandbytes.nn.Int8Params):
        return _quantised_to_8_bits(old, data)
    return nn.Parameter(data, requires_grad=old.requires_grad)


def _quantised_to_4_bits(old: Any, data: torch.Tensor) -> nn.Parameter:
    """As Params4bit quantises when it reaches a device. A fake tensor cannot be of that class, so its attributes are
    given to a plain one."""
    # The scales' code book is made once and kept for good: it must not be a fake.
    with _disable_current_modes():
        bitsandbytes.functional.quantize_blockwise(torch.zeros(256))
    packed, state = bitsandbytes.functional.quantize_4bit(
        data, blocksize=old.blocksize, compress_statistics=old.compress_statistics, quant_type=old.quant_type,
        quant_storage=old.quant_storage)
    fresh = nn.Parameter(packed, requires_grad=False)
    fresh.quant_state = state
    return fresh


def _quantised_to_8_bits(old: Any, data: torch.Tensor) -> nn.Parameter:
    codes, scales, _ = bitsandbytes.functional.int8_vectorwise_quant(data.to(torch.float16))
    fresh = nn.Parameter(codes, requires_grad=False)
    fresh.CB, fresh.SCB, fresh.has_fp16_weights = codes, scales, False
    return fresh
