"""A recipe: everything that defines a run, as frozen, strictly checked models."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from workbench.engine.objectives import ObjectiveId
from workbench.engine.recipe_data import DatasetPart, DatasetSettings, DataSettings
from workbench.engine.recipe_objectives import DpoSettings, KtoSettings, OrpoSettings, RewardSettings, RlhfSettings
from workbench.engine.recipe_section import LARGEST, Positive, Section, Strings
from workbench.engine.text import slug
from workbench.engine.tuning import TuningId, default_learning_rate

__all__ = ["DatasetPart", "DatasetSettings", "FailureSettings", "HardwareSettings", "LoraSettings",
           "QuantizationSettings", "Recipe", "SampleSettings", "Section", "TrainingSettings"]


class LoraSettings(Section):
    """Low-rank adapters; peft's names."""

    lora_r: Positive = 16
    """Rank: the inner width of each adapter pair. More learns more and costs more."""
    lora_alpha: Positive = 32
    """Scale: an adapter's output is multiplied by lora_alpha / lora_r."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of an adapter's inputs dropped while training."""
    target_modules: Literal["all-linear"] | Strings = "all-linear"
    """The layers that get an adapter: `all-linear`, or a list such as [q_proj, v_proj]."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(lora_r) (rank-stabilised LoRA)."""


class QuantizationSettings(Section):
    """How QLoRA holds the frozen base."""

    bits: Literal[4, 8] = 4
    """4 (NF4) or 8 (LLM.int8)."""
    double_quantization: bool = True
    """Quantise the scales too; saves about 0.4 bits a weight."""


class TrainingSettings(Section):
    """The training loop; the names of transformers' and trl's own arguments."""

    num_train_epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the dataset."""
    max_steps: Annotated[int, Field(ge=-1, le=LARGEST)] = -1
    """Stop after this many optimizer steps; -1 means by epochs."""
    per_device_train_batch_size: Positive = 4
    """Rows a GPU handles at once: memory grows with it."""
    per_device_eval_batch_size: Positive = 4
    """Rows a GPU evaluates at once."""
    gradient_accumulation_steps: Positive = 4
    """Micro-batches summed before a step: a larger batch without its memory."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; default: by objective, ten times as high for LoRA and QLoRA (sft: 2e-5 full, 2e-4 LoRA)."""
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    """How the learning rate falls."""
    warmup_steps: Annotated[float, Field(ge=0)] = 0.03
    """Steps over which the rate rises; below 1, a share of all steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Pull of the weights towards zero."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are scaled down to this norm."""
    optim: str = "adamw_torch_fused"
    """The optimizer, by transformers' OptimizerNames."""
    max_length: Positive = 1024
    """Tokens a row may have; longer rows are cut."""
    packing: bool = False
    """Fill each sequence with several rows: no padding, more tokens a second."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: much less memory, about a third slower."""
    assistant_only_loss: bool = True
    """Learn the assistant's tokens only; false also learns the prompts."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """How weights are held; auto is bfloat16 on a GPU that has it, float32 on a CPU."""
    bf16: bool | None = None
    """Compute under bfloat16 autocast; default: yes on a GPU with bfloat16, no on a CPU."""
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"
    """The attention kernel."""
    logging_steps: Positive = 10
    """Log every so many steps."""
    save_steps: Positive | None = 500
    """Write a checkpoint every so many steps; null: only when asked to."""
    save_total_limit: Positive = 2
    """Checkpoints kept; older ones are deleted."""
    eval_steps: Positive | None = None
    """Evaluate every so many steps; default: once an epoch."""
    eval_on_start: bool = True
    """Evaluate before the first step, too: what training is compared with."""
    early_stopping_patience: Positive | None = None
    """Stop after so many evaluations without a better `metric_for_best_model`; null: never."""
    load_best_model_at_end: bool = False
    """Keep the checkpoint with the best `metric_for_best_model`, beside the newest ones, and make it the result."""
    metric_for_best_model: str = "eval/loss"
    """The metric of an evaluation that tells which checkpoint is best."""
    greater_is_better: bool | None = None
    """Whether more of that metric is better; default: no for a loss or a perplexity, yes for all others."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seed of the weights' initialisation, the data order and the sampling."""


class SampleSettings(Section):
    """What the model is asked while it learns."""

    every_steps: Positive | None = 50
    """Answer the prompts every so many steps, and at step 0 and at the end; null: only then."""
    prompts: Strings = ()
    """The same prompts each time, so that answers can be compared."""
    max_new_tokens: Positive = 64
    """Tokens an answer may have."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 answers greedily."""


class HardwareSettings(Section):
    """What the run may use."""

    use_cpu: bool = False
    """Train on the CPU even where there is a GPU."""
    probe: bool = True
    """Try the longest rows before the first step: measures the peak and fails at once where it does not fit."""
    gpus: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """The GPUs it may run on, by index or UUID; it takes one of them. Empty: any."""

    @field_validator("gpus", mode="before")
    @classmethod
    def _indices(cls, value: object) -> object:
        """GPUs are numbered, and a single one needs no list."""
        listed = value if isinstance(value, list | tuple) else [value]
        return [str(gpu) if isinstance(gpu, int) and not isinstance(gpu, bool) else gpu for gpu in listed]


class FailureSettings(Section):
    """What is done by itself when training fails."""

    resume: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    """Go on from the last good checkpoint so many times after the worker was killed, hung or met an error."""
    halve_batch: bool = False
    """After running out of memory go on with half the per_device_train_batch_size and twice the
    gradient_accumulation_steps: the effective batch stays the same."""
    hang_minutes: Positive = 30
    """A worker that gives no sign of life for so long counts as hung; it is ended where `resume` allows to go on."""


class Recipe(Section):
    """Everything that defines a run."""

    name: Annotated[str, Field(max_length=64)] = ""
    """The run's name; default: made of model, tuning and objective."""
    model: str
    """A Hub id, a folder, or `tiny-base`."""
    dataset: DatasetSettings
    """A path or id alone, or a section."""
    objective: ObjectiveId = "sft"
    """What is learned."""
    tuning: TuningId = "lora"
    """Which weights move: full, lora or qlora."""
    lora: LoraSettings = LoraSettings()
    quantization: QuantizationSettings = QuantizationSettings()
    training: TrainingSettings = TrainingSettings()
    samples: SampleSettings = SampleSettings()
    hardware: HardwareSettings = HardwareSettings()
    on_failure: FailureSettings = FailureSettings()
    data: DataSettings = DataSettings()
    dpo: DpoSettings = DpoSettings()
    rt: DpoSettings = DpoSettings()
    orpo: OrpoSettings = OrpoSettings()
    kto: KtoSettings = KtoSettings()
    reward: RewardSettings = RewardSettings()
    rlhf: RlhfSettings = RlhfSettings()
    stages: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()
    """A pipeline: each stage is what it sets differently from the rest of the recipe. It begins from the last result
    that can write; RLHF is judged by the last reward model."""

    @field_validator("dataset", mode="before")
    @classmethod
    def _path_alone(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str | list | tuple) else value

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        stages = data.get("stages")
        if stages and isinstance(stages, list | tuple) and isinstance(stages[0], dict):
            # What only the first stage says is what the others begin from, too.
            data = {**{key: stages[0][key] for key in ("model", "dataset") if key in stages[0]}, **data}
        if data.get("name") or not isinstance(data.get("model"), str):
            return data
        parts = [data["model"].rstrip("/").rsplit("/", 1)[-1], data.get("tuning", "lora"), data.get("objective", "sft")]
        return {**data, "name": slug("-".join(map(str, parts[:2] if stages else parts)))}

    @property
    def learning_rate(self) -> float:
        """The peak learning rate that the run will use."""
        return self.training.learning_rate or default_learning_rate(self.objective, self.tuning)

    @property
    def effective_batch_size(self) -> int:
        """Rows a step, on one device."""
        return self.training.per_device_train_batch_size * self.training.gradient_accumulation_steps
