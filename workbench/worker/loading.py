"""Models and tokenizers from disk or the Hub: safetensors only, no foreign code, an explicit dtype."""

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.catalog.completeness import refuse_own_code
from workbench.engine.catalog.models import ModelSource
from workbench.engine.errors import InputError
from workbench.engine.recipe import QuantizationSettings
from workbench.worker.data.templates import PLAIN_TEMPLATE
from workbench.worker.fetching import model_folder

SCORE_HEAD = "score"
"""The head of transformers' sequence classifiers over decoders, which peft trains in full."""


def pick_device(use_cpu: bool = False) -> torch.device:
    """The first GPU, or the CPU where there is none or it is asked for."""
    return torch.device("cuda" if torch.cuda.is_available() and not use_cpu else "cpu")


def device_name(device: torch.device) -> str:
    """A GPU's name as its driver gives it; `cpu` for the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """A recipe's `dtype` as torch's; `auto` is bfloat16 on a GPU that has it, float32 elsewhere."""
    if dtype != "auto":
        named: torch.dtype = getattr(torch, dtype)
        return named
    return torch.bfloat16 if has_bfloat16(device) else torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device is a GPU that computes in bfloat16."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def load_tokenizer(source: ModelSource) -> tuple[PreTrainedTokenizerBase, bool]:
    """The model's tokenizer, ready for training and generation, and whether its chat template is its own.

    An adapter's own tokenizer has the template that it learned with, so it comes first. A model without a chat template
    gets the plain one. No weights are needed. Raises InputError.
    """
    adapter = source.adapter
    if adapter is not None and (adapter / "tokenizer_config.json").is_file():
        saved = adapter
        refuse_own_code(saved, source.label)
    else:
        saved = model_folder(source, weights=False)
    tokenizer = AutoTokenizer.from_pretrained(str(saved), trust_remote_code=False)
    if tokenizer.eos_token is None:
        raise InputError(f"The tokenizer of {source.name} has no EOS token, so a model could never learn to stop.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    own_template = tokenizer.chat_template is not None
    if not own_template:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer, own_template


def load_model(source: ModelSource, *, dtype: torch.dtype, device: torch.device, attn_implementation: str = "sdpa",
               quantization: QuantizationSettings | None = None, rewards: bool = False) -> PreTrainedModel:
    """The model on the device, frozen bases quantised when `quantization` is given. Raises InputError.

    `rewards`: with a head that gives one score in place of logits; where the files have none, it begins random.
    """
    folder = model_folder(source, tokenizer=False)
    options: dict[str, Any] = {"num_labels": 1} if rewards else {}
    if quantization is not None:
        options["quantization_config"] = bitsandbytes_config(quantization, dtype, rewards)
    kind = AutoModelForSequenceClassification if rewards else AutoModelForCausalLM
    model, report = kind.from_pretrained(
        str(folder), dtype=dtype, device_map={"": device}, attn_implementation=attn_implementation,
        use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options)
    # transformers fills what is missing with random numbers and goes on.
    if missing := {key for key in report["missing_keys"] if not (rewards and key.startswith(SCORE_HEAD))}:
        raise InputError(f"{source.name} lacks {len(missing)} of its weights, {min(missing)} among them.",
                         "Its safetensors files are incomplete: download or save the model again.")
    loaded: PreTrainedModel = model
    if quantization is not None:
        keep_quantised_differentiable(loaded)
    return loaded


def keep_quantised_differentiable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes' 4-bit layers trainable through after they answered in evaluation mode.

    On a CPU with AVX512-BF16 the first answer repacks their weights for inference (bitsandbytes 0.50,
    Linear4bit.forward), for good: no gradient passes them any more, and training goes on without a word.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def adapters_in_float32(model: PreTrainedModel) -> None:
    """Hold trainable weights in float32: trl (1.16) makes the adapters of a quantised base bfloat16.

    AdamW's second moment, kept in the weight's type, loses 0.1 % a step: less than bfloat16 can tell apart, so it
    would never fall again and the steps would stay as small as the largest gradient made them.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def bitsandbytes_config(quantization: QuantizationSettings, dtype: torch.dtype,
                        rewards: bool = False) -> BitsAndBytesConfig:
    """transformers' configuration of a quantised base that computes in `dtype`; a head of `rewards` is trained, so it
    stays as it is."""
    skipped = {"llm_int8_skip_modules": [SCORE_HEAD]} if rewards else {}
    if quantization.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, **skipped)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype,
                              bnb_4bit_use_double_quant=quantization.double_quantization, **skipped)
