"""Preference and reward objectives against storages counted on fake tensors, as in test_estimate_traced.py."""

import importlib
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.tracing import StorageCount, as_on_cuda, build, make_fake
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.estimate import MemoryEstimate, estimate_memory
from workbench.engine.memory.terms import CUBLAS_WORKSPACES

LAYERS, BATCH, LENGTH = 4, 8, 1024
CONFIG = resolve_model("Qwen/Qwen3-0.6B").config | {"num_hidden_layers": LAYERS}


def estimated(objective: str, tuning: Any, checkpointing: bool) -> MemoryEstimate:
    return estimate_memory(architecture_from_config(CONFIG), MemoryCase(
        objective=objective, tuning=tuning, per_device_train_batch_size=BATCH // 2, max_length=LENGTH,
        gradient_checkpointing=checkpointing, optim="sgd", attn_implementation="flash_attention_2"))


def prepare(model: Any, checkpointing: bool, adapters: bool) -> torch.Tensor:
    make_fake(model)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if adapters:
            model.enable_input_require_grads()
    return torch.zeros(BATCH, LENGTH, dtype=torch.long)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_references_forward_is_no_peak_of_its_own(tuning: str, checkpointing: bool) -> None:
    model = build(CONFIG, tuning, "sdpa")
    reference = build(CONFIG, "full", "sdpa") if tuning == "full" else model
    with FakeTensorMode(allow_non_fake_inputs=True), as_on_cuda():
        if reference is not model:
            make_fake(reference)
        ids = prepare(model, checkpointing, adapters=tuning == "lora")
        arguments: dict[str, Any] = {"input_ids": ids, "labels": ids, "fused_lm_head": True, "use_cache": False}
        with StorageCount() as count:
            for parameter in {*model.parameters(), *reference.parameters()}:
                count.add(parameter)
            with torch.autocast("cpu", torch.bfloat16):
                chosen = model(**arguments).log_probs.sum()
                with torch.no_grad():
                    # trl switches checkpointing off here (disable_gradient_checkpointing).
                    model.gradient_checkpointing_disable()
                    if reference is model:
                        with model.disable_adapter():
                            past = model(**arguments).log_probs.sum()
                    else:
                        past = reference(**arguments).log_probs.sum()
                    if checkpointing:
                        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            (past - chosen).backward()
    predicted = estimated("dpo", tuning, checkpointing).peak_bytes - CUBLAS_WORKSPACES
    assert predicted == pytest.approx(count.peak, rel=0.02)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_reward_models_pairs_are_met(tuning: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    modeling = importlib.import_module("transformers.models.qwen3.modeling_qwen3")
    for name in ("create_causal_mask", "create_sliding_window_causal_mask"):
        monkeypatch.setattr(modeling, name, lambda *arguments, **keywords: None)
    fields = {key: value for key, value in CONFIG.items() if key != "model_type"}
    settings = CONFIG_MAPPING["qwen3"](**fields, pad_token_id=0, num_labels=1)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(settings, dtype=torch.bfloat16)
        if tuning == "lora":
            model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="SEQ_CLS"))
    found = estimated("reward", tuning, checkpointing)
    assert found.trainable_parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)
    with FakeTensorMode(allow_non_fake_inputs=True), as_on_cuda():
        ids = prepare(model, checkpointing, adapters=tuning == "lora")
        with StorageCount() as count:
            for parameter in model.parameters():
                count.add(parameter)
            with torch.autocast("cpu", torch.bfloat16):
                chosen, rejected = model(input_ids=ids, use_cache=False).logits.chunk(2)
                loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()
            loss.backward()
    assert found.peak_bytes - CUBLAS_WORKSPACES == pytest.approx(count.peak, rel=0.02)
