"""What is to be estimated: one training set-up, and the number formats that follow from it."""

from dataclasses import dataclass
from typing import Literal

from workbench.engine.catalog.architecture import ALL_LINEAR
from workbench.engine.errors import InputError

TuningName = Literal["full", "lora", "qlora"]
LossKernel = Literal["auto", "full_logits", "liger", "fused"]


@dataclass(frozen=True, slots=True)
class MemoryCase:
    """One training set-up. Names and meanings are those of a recipe; the defaults are a recipe's, on a bf16 GPU."""

    objective: str = "sft"
    tuning: TuningName = "lora"
    lora_r: int = 16
    lora_dropout: float = 0.0
    target_modules: str | tuple[str, ...] = ALL_LINEAR
    quantization: str = "none"
    """none | nf4 | nf4-double | int8. Left at none, qlora means nf4-double."""
    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 1
    """Above 1, gradients stay allocated while the next micro-batch runs forward."""
    max_length: int = 1024
    gradient_checkpointing: bool = True
    dtype: str = "auto"
    mixed_precision: str = "bf16"
    optim: str = "adamw_torch_fused"
    attn_implementation: str = "sdpa"
    loss_kernel: LossKernel = "auto"
    prepare_for_kbit: bool = False
    num_processes: int = 1
    sharding: str = "none"
    packing: bool = False


_WIDTHS = {"auto": 2, "bfloat16": 2, "bf16": 2, "float16": 2, "fp16": 2, "float32": 4, "fp32": 4}
_CHOICES: dict[str, tuple[str, ...]] = {
    "tuning": ("full", "lora", "qlora"),
    "quantization": ("none", "nf4", "nf4-double", "int8"),
    "dtype": tuple(_WIDTHS),
    "mixed_precision": ("no", "bf16", "fp16"),
    "attn_implementation": ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"),
    "loss_kernel": ("auto", "full_logits", "liger", "fused"),
    "sharding": ("none", "ddp", "fsdp"),
}
_AT_LEAST_ONE = (
    "lora_r",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "num_processes",
)

# Sequences in one forward pass for each row of the batch: preference pairs are concatenated (trl's DPOTrainer and
# RewardTrainer). Objectives that are not here need mechanisms that no term describes yet.
SEQUENCES_PER_ROW: dict[str, int] = {"sft": 1, "cpt": 1, "dpo": 2, "reward": 2}


def checked(case: MemoryCase) -> MemoryCase:
    """The case itself. Raises InputError for a value outside a field's choices."""
    for field, choices in _CHOICES.items():
        if getattr(case, field) not in choices:
            raise InputError(
                f"{field} = {getattr(case, field)!r} is not known.", hint=f"Choose from {', '.join(choices)}."
            )
    for field in _AT_LEAST_ONE:
        value = getattr(case, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{field} = {value!r} is not a whole number of at least 1.")
    if case.objective not in SEQUENCES_PER_ROW:
        raise InputError(
            f"The memory of the objective {case.objective!r} is not estimated yet.",
            hint=f"Estimated today: {', '.join(SEQUENCES_PER_ROW)}.",
        )
    if case.tuning == "full" and case.quantization != "none":
        raise InputError(
            f"A {case.quantization} base cannot be trained in full.", hint="Quantise with LoRA only."
        )
    return case


@dataclass(frozen=True, slots=True)
class Precision:
    """Bytes per number: of the base's 16- or 32-bit weights, of trained weights, and of the activations.

    `stream` is the residual stream between blocks, `compute` what matrix products work in.
    """

    weight: int
    trained: int
    stream: int
    compute: int
    autocast: bool
    quantization: str


def precision_of(case: MemoryCase) -> Precision:
    """The number formats that PEFT, trl and autocast choose for a case."""
    quantization = case.quantization
    if case.tuning == "qlora" and quantization == "none":
        quantization = "nf4-double"
    weight = _WIDTHS[case.dtype]
    autocast = case.mixed_precision != "no"
    # prepare_model_for_kbit_training makes the norms fp32. Linear4bit answers in its input's type, so from the first
    # block on the residual stream is fp32 too.
    stream = 4 if quantization != "none" and case.prepare_for_kbit else weight
    if case.tuning == "full":
        trained = weight
    elif quantization != "none" and case.loss_kernel in ("auto", "fused"):
        trained = 2  # trl 1.16 SFTTrainer.__init__: adapters of quantised models are cast to bf16
    else:
        trained = 4  # PEFT's autocast_adapter_dtype=True
    return Precision(weight, trained, stream, 2 if autocast else weight, autocast, quantization)
