"""What other kernels than transformers' own change in the steps of a block.

Read in Liger's ops/rms_norm.py, in the Unsloth kernels that fms-acceleration's foak plugin carries
(kernels/unsloth/rms_layernorm.py, fused_ops/unsloth_lora/bnb/fast_lora.py), and in bitsandbytes' MatMul8bitLt.
"""

from typing import TYPE_CHECKING

from workbench.engine.catalog.operations import Block, Operation
from workbench.engine.memory.setting import Setting

if TYPE_CHECKING:
    from workbench.engine.memory.steps import Step


def replaced(step: "Step", operation: Operation, setting: Setting, numbers: dict[int, float]) -> None:
    """Change the step of an operation to what the case's kernels make of it."""
    if setting.case.kernels in ("liger", "unsloth"):
        _norm(step, operation, numbers)
    if operation.kind == "linear":
        _linear(step, operation, setting)


def _norm(step: "Step", operation: Operation, numbers: dict[int, float]) -> None:
    """A fused RMSNorm, weight and casts included, keeps its very input and one number a token in fp32; its backward
    makes one gradient."""
    if operation.kind == "norm" and operation.variant.startswith("rms"):
        x = operation.inputs[0]
        step.number, step.keeps, step.copies, step.forward = numbers[x], (x,), 4, 0
        step.backward = sum(size or 0 for _, size in step.gradients)
    elif operation.kind == "weight":
        step.keeps = ()


def _linear(step: "Step", operation: Operation, setting: Setting) -> None:
    layer, case, quantization = operation.layer, setting.case, setting.precision.quantization
    if layer is None or quantization == "none" or not layer.quantised:
        return
    if quantization == "int8":
        # Every layer keeps its input, frozen or not (MatMul8bitLt, `ctx.tensors`). Its forward casts it to fp16 and to
        # 8-bit codes, and its product is int32 first.
        step.keeps = operation.inputs
        step.forward = max(step.forward, (2 + 1) * layer.in_features + 4 * layer.out_features)
    elif case.kernels == "unsloth" and layer.name in setting.adapted and case.lora_dropout:
        # Unsloth's adapters keep the input, and what was dropped out of it, where PEFT keeps a mask.
        step.keeps = operation.inputs
        step.copies -= layer.in_features


def recompute_change(setting: Setting) -> float:
    """Reentrant checkpointing, transformers 4's default, holds the recomputed output until the backward has ended."""
    reentrant = setting.case.gradient_checkpointing and setting.case.on_transformers_4
    return setting.precision.stream * setting.architecture.hidden_size if reentrant else 0


def held_inputs(setting: Setting, block: Block) -> float:
    """Bytes per token that a checkpointed block keeps all the same: MatMul8bitLt holds its inputs by itself, where
    the hooks of non-reentrant checkpointing do not see them (bitsandbytes autograd/_functions.py, `ctx.tensors`)."""
    if setting.precision.quantization != "int8" or setting.case.on_transformers_4:
        return 0
    inputs = {op.inputs[0]: op.layer.in_features for op in block.operations if op.layer and op.layer.quantised}
    return setting.precision.stream * sum(inputs.values())
