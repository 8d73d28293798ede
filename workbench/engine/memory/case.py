"""What is to be estimated: one training set-up, and the number formats that follow from it."""

from dataclasses import dataclass
from typing import Literal

from workbench.engine.catalog.architecture import ALL_LINEAR
from workbench.engine.errors import InputError
from workbench.engine.memory.objectives import objective_of

TuningName = Literal["full", "lora", "qlora"]
LossKernel = Literal["auto", "full_logits", "liger", "fused", "unsloth", "litgpt"]


@dataclass(frozen=True, slots=True)
class MemoryCase:
    """One training set-up. Names and meanings are those of a recipe, transformers and trl; the defaults are a
    recipe's, on a bf16 GPU."""

    objective: str = "sft"
    tuning: TuningName = "lora"
    lora_r: int = 16
    lora_dropout: float = 0.0
    target_modules: str | tuple[str, ...] = ALL_LINEAR
    adapter_dtype: str = "auto"
    """auto | bfloat16 | float32. auto is what the library does: trl 1.16 makes the adapters of a quantised base
    bfloat16, PEFT makes all others float32."""
    quantization: str = "none"
    """none | nf4 | nf4-double | int8. Left at none, qlora means nf4-double."""
    per_device_train_batch_size: int = 4
    """Rows in a micro-batch: texts, pairs (dpo, rt, orpo, reward) or completions (rlhf)."""
    gradient_accumulation_steps: int = 1
    """Above 1, gradients stay allocated while the next micro-batch runs forward."""
    max_length: int = 1024
    """Tokens in a row: a text, or an answer with its prompt; each answer of a pair."""
    gradient_checkpointing: bool = True
    dtype: str = "auto"
    mixed_precision: str = "bf16"
    optim: str = "adamw_torch_fused"
    attn_implementation: str = "sdpa"
    loss_kernel: LossKernel = "auto"
    """auto and fused: trl 1.16's chunked head. full_logits, liger, unsloth and litgpt: another trainer, see
    `transformers`."""
    kernels: str = "transformers"
    """transformers | liger | unsloth | litgpt: who computes norms, rotary embeddings and adapters inside a block. A
    `loss_kernel` alone changes nothing but the loss."""
    transformers: str = "auto"
    """auto | 4 | 5: the major version that loads the model. auto is 5 under trl's chunked head, and 4 under the others:
    reentrant checkpointing, and experts as one `nn.Linear` each, which bitsandbytes quantises."""
    prepare_for_kbit: bool = False
    num_processes: int = 1
    sharding: str = "none"
    packing: bool = False
    precompute_ref_log_probs: bool = False
    """dpo, rt and kto: no reference model is held in training."""
    algorithm: str = "grpo"
    """rlhf: grpo | rloo."""
    beta: float | None = None
    """rlhf: weight of the KL term; 0 needs no reference model. None is trl's default: 0 for grpo, 0.05 for rloo."""
    num_generations: int = 8
    """rlhf: completions of one prompt; how many are held at once is `per_device_train_batch_size`'s."""
    max_completion_length: int | None = None
    """rlhf: tokens of `max_length` that may be written as an answer. None is the worker's default: 256, or half of a
    shorter `max_length` (worker/objectives/rlhf.py)."""
    reward_parameters: int = 0
    """rlhf: parameters of a reward model held beside the trained one, in the base's own number format."""

    def answer_length(self, length: int) -> int:
        """rlhf: the most tokens that are written, and scored, in a row of `length` tokens."""
        asked = min(256, length // 2) if self.max_completion_length is None else self.max_completion_length
        return max(min(asked, length - 1), 1)

    @property
    def on_transformers_4(self) -> bool:
        """Whether transformers 4 loads the model and checkpoints its blocks."""
        return self.transformers == "4" or (self.transformers == "auto" and self.loss_kernel not in ("auto", "fused"))


_WIDTHS = {"auto": 2, "bfloat16": 2, "bf16": 2, "float16": 2, "fp16": 2, "float32": 4, "fp32": 4}
CHOICES: dict[str, tuple[str, ...]] = {
    "tuning": ("full", "lora", "qlora"),
    "quantization": ("none", "nf4", "nf4-double", "int8"),
    "dtype": tuple(_WIDTHS),
    "adapter_dtype": ("auto", "bfloat16", "float32"),
    "mixed_precision": ("no", "bf16", "fp16"),
    "attn_implementation": ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"),
    "loss_kernel": ("auto", "full_logits", "liger", "fused", "unsloth", "litgpt"),
    "kernels": ("transformers", "liger", "unsloth", "litgpt"),
    "transformers": ("auto", "4", "5"),
    "sharding": ("none", "ddp", "fsdp"),
    "algorithm": ("grpo", "rloo"),
}
_AT_LEAST_ONE = (
    "lora_r",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "num_processes",
    "num_generations",
)


def checked(case: MemoryCase) -> MemoryCase:
    """The case itself. Raises InputError for a value outside a field's choices."""
    objective_of(case.objective)
    for field, choices in CHOICES.items():
        if getattr(case, field) not in choices:
            raise InputError(
                f"{field} = {getattr(case, field)!r} is not known.", hint=f"Choose from {', '.join(choices)}."
            )
    for field in _AT_LEAST_ONE:
        value = getattr(case, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{field} = {value!r} is not a whole number of at least 1.")
    if case.max_completion_length is not None and case.max_completion_length < 1:
        raise InputError(f"max_completion_length = {case.max_completion_length} is not a whole number of at least 1.")
    if case.reward_parameters < 0:
        raise InputError(f"reward_parameters = {case.reward_parameters} is negative.")
    if not 0 <= case.lora_dropout < 1:
        raise InputError(f"lora_dropout = {case.lora_dropout} is not a share below 1.")
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
    """The number formats that PEFT, trl, accelerate and autocast choose for a case."""
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
    elif case.adapter_dtype != "auto":
        trained = _WIDTHS[case.adapter_dtype]
    elif quantization != "none" and case.loss_kernel in ("auto", "fused") and case.objective != "orpo":
        trained = 2  # trl 1.16, __init__ of each trainer: adapters of quantised models are cast to bf16
    else:
        trained = 4  # PEFT's autocast_adapter_dtype=True
    if quantization == "none" and autocast and case.sharding == "fsdp" and case.num_processes > 1:
        # accelerate makes what trains fp32 and gathers everything in 16 bits (utils/fsdp_utils.py,
        # fsdp2_prepare_model): blocks see 16-bit weights, the optimizer fp32 ones.
        return Precision(2 if case.tuning == "full" else weight, 4, 2, 2, autocast, quantization)
    return Precision(weight, trained, stream, 2 if autocast else weight, autocast, quantization)
