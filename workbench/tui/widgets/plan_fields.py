"""The settings that the form of a recipe shows, and when."""

from workbench.engine.objectives import OBJECTIVES
from workbench.engine.tuning import TUNINGS
from workbench.tui.widgets.fields import FieldSpec

_ADAPTERS = ("lora", "qlora")
_ON_OFF = ((True, "on"), (False, "off"))
_OFF_ON = ((False, "off"), (True, "on"))
_TEXTS = ("sft", "cpt")
_CHATS = tuple(objective for objective in OBJECTIVES if objective not in ("cpt", "rt"))
_ANSWERING = tuple(objective for objective in OBJECTIVES if objective != "reward")
_LOSSES = tuple((name, name) for name in ("sigmoid", "hinge", "ipo", "robust", "apo_zero", "apo_down"))

FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("model", "Model", kind="text", picker="model"),
    FieldSpec("dataset.path", "Dataset", kind="sources", picker="dataset"),
    FieldSpec("objective", "Objective", tuple((o.id, f"{o.id}: {o.title}") for o in OBJECTIVES.values())),
    FieldSpec("tuning", "Tuning", tuple((t.id, t.title) for t in TUNINGS.values())),
    FieldSpec("dpo.beta", "Beta", objectives=("dpo",)),
    FieldSpec("rt.beta", "Beta", objectives=("rt",)),
    FieldSpec("orpo.orpo_alpha", "ORPO alpha", objectives=("orpo",)),
    FieldSpec("kto.beta", "Beta", objectives=("kto",)),
    FieldSpec("kto.desirable_weight", "Good weight", objectives=("kto",)),
    FieldSpec("kto.undesirable_weight", "Bad weight", objectives=("kto",)),
    FieldSpec("rlhf.algorithm", "Algorithm", (("grpo", "GRPO"), ("rloo", "RLOO")), objectives=("rlhf",)),
    FieldSpec("rlhf.reward", "Reward", objectives=("rlhf",), kind="names"),
    FieldSpec("rlhf.num_generations", "Generations", objectives=("rlhf",)),
    FieldSpec("rlhf.max_completion_length", "Answer tokens", objectives=("rlhf",)),
    FieldSpec("lora.lora_r", "LoRA rank", tunings=_ADAPTERS),
    FieldSpec("lora.lora_alpha", "LoRA alpha", tunings=_ADAPTERS),
    FieldSpec("training.per_device_train_batch_size", "Batch size"),
    FieldSpec("training.gradient_accumulation_steps", "Accumulate"),
    FieldSpec("training.max_length", "Max length"),
    FieldSpec("training.learning_rate", "Learning rate"),
    FieldSpec("training.num_train_epochs", "Epochs"),
    FieldSpec("training.max_steps", "Max steps"),
    FieldSpec("training.gradient_checkpointing", "Checkpointing", _ON_OFF),
    FieldSpec("name", "Name", kind="text", more=True),
    FieldSpec("dpo.loss_type", "Loss", _LOSSES, objectives=("dpo",), more=True),
    FieldSpec("dpo.label_smoothing", "Smoothing", objectives=("dpo",), more=True),
    FieldSpec("rt.loss_type", "Loss", _LOSSES, objectives=("rt",), more=True),
    FieldSpec("rt.label_smoothing", "Smoothing", objectives=("rt",), more=True),
    FieldSpec("reward.center_rewards_coefficient", "Centring", objectives=("reward",), more=True),
    FieldSpec("rlhf.reward_weights", "Reward mix", objectives=("rlhf",), kind="numbers", more=True),
    FieldSpec("rlhf.beta", "KL beta", objectives=("rlhf",), more=True),
    FieldSpec("rlhf.temperature", "Temperature", objectives=("rlhf",), more=True),
    FieldSpec("data.chat_template", "Template", objectives=_CHATS, kind="text", picker="template", more=True),
    FieldSpec("training.assistant_only_loss", "Learn", ((True, "answers only"), (False, "prompts too")),
              objectives=("sft",), more=True),
    FieldSpec("training.packing", "Packing", _ON_OFF, objectives=_TEXTS, more=True),
    FieldSpec("dataset.split", "Split", kind="text", more=True),
    FieldSpec("dataset.max_rows", "Rows at most", more=True),
    FieldSpec("dataset.streaming", "Streaming", _OFF_ON, more=True),
    FieldSpec("data.max_rejected_rows", "Bad rows", more=True),
    FieldSpec("data.allow", "Allowed", kind="names", more=True),
    FieldSpec("dataset.eval_path", "Eval dataset", kind="text", picker="dataset", more=True),
    FieldSpec("dataset.eval_fraction", "Eval fraction", more=True),
    FieldSpec("training.eval_steps", "Eval every", more=True),
    FieldSpec("training.early_stopping_patience", "Stop early", more=True),
    FieldSpec("training.load_best_model_at_end", "Keep best", _OFF_ON, more=True),
    FieldSpec("training.metric_for_best_model", "Best by", kind="text", more=True),
    FieldSpec("lora.target_modules", "LoRA targets", tunings=_ADAPTERS, kind="names", more=True),
    FieldSpec("lora.lora_dropout", "LoRA dropout", tunings=_ADAPTERS, more=True),
    FieldSpec("quantization.bits", "Bits", ((4, "4 (NF4)"), (8, "8")), tunings=("qlora",), more=True),
    FieldSpec("training.optim", "Optimizer", kind="text", more=True),
    FieldSpec("training.lr_scheduler_type", "Schedule", kind="text", more=True),
    FieldSpec("training.warmup_steps", "Warm-up", more=True),
    FieldSpec("training.dtype", "Weights dtype", tuple((d, d) for d in ("auto", "bfloat16", "float16", "float32")),
              more=True),
    FieldSpec("training.seed", "Seed", more=True),
    FieldSpec("training.logging_steps", "Log every", more=True),
    FieldSpec("training.save_steps", "Save every", more=True),
    FieldSpec("samples.every_steps", "Sample every", objectives=_ANSWERING, more=True),
)
