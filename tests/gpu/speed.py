"""How fast the worker trains against the same plain trl script, and chat against bare `generate`."""

import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from tests.gpu.cases import Case, recipe_for
from tests.gpu.training import by_worker, free, quietly, write_model, write_rows
from workbench.engine.catalog.models import resolve_model
from workbench.engine.chat_target import resolve_chat_target
from workbench.engine.data.examples import Located, read_examples
from workbench.engine.recipe_data import DatasetPart
from workbench.worker.chat import ChatModel
from workbench.worker.loading import has_bfloat16, load_model, load_tokenizer, pick_dtype

_LOGGING_STEPS = 5


class _StepTimes(TrainerCallback):
    """When each logged step ended, the device idle."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_log(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def training_speed(case: Case, folder: Path, device: torch.device, steps: int) -> dict[str, Any]:
    """Tokens a second of the worker, of the script, and their ratio; both log every few steps."""
    recipe = recipe_for(case, write_model(case, folder, device), write_rows(case, folder), steps, _LOGGING_STEPS)
    recipe = recipe.model_copy(update={"samples": recipe.samples.model_copy(update={"prompts": ()})})
    with quietly(folder / "log.txt"):
        plain = _plain_script(case, folder, device, steps)
        free()
        ours = by_worker(recipe)["tokens_per_second"]
        free()
    return {"id": f"training {case.id}", "ours": ours, "bare": plain, "ratio": ours / plain}


def _plain_script(case: Case, folder: Path, device: torch.device, steps: int) -> float:
    source = resolve_model(str(write_model(case, folder, device)))
    tokenizer, _ = load_tokenizer(source)
    part = DatasetPart(path=str(write_rows(case, folder)))
    rows = [found.example for found in read_examples(part, "sft", None) if isinstance(found, Located)]
    times = _StepTimes()
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=load_model(source, dtype=pick_dtype("auto", device), device=device),
        args=SFTConfig(output_dir=str(folder / "plain"), max_steps=steps, per_device_train_batch_size=case.batch,
                       gradient_accumulation_steps=case.accumulation, max_length=case.length, seed=42,
                       learning_rate=2e-4, lr_scheduler_type="cosine", warmup_steps=0.03, optim="adamw_torch_fused",
                       gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False},
                       assistant_only_loss=True, bf16=has_bfloat16(device), use_cpu=device.type == "cpu",
                       logging_steps=_LOGGING_STEPS, save_strategy="no", report_to="none", disable_tqdm=True),
        train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=lora if case.tuning == "lora" else None, callbacks=[times])
    trainer.train()
    counts = [entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry]
    spans = zip(times.times, times.times[1:], counts, counts[1:], strict=False)
    rates = [(tokens - before) / (end - began) for began, end, before, tokens in spans if tokens > before]
    return median(rates[1:] or rates)


def chat_speed(case: Case, folder: Path, device: torch.device, tokens: int) -> dict[str, Any]:
    """Tokens a second after the first: chat's streamed answer, and one `generate` of the same length."""
    path = write_model(case, folder, device)
    with quietly(folder / "log.txt"):
        ours = _chat(path, tokens)
        bare = _generate(path, device, tokens)
        free()
    return {"id": f"chat {case.id}", "ours": ours, "bare": bare, "ratio": ours / bare}


def _chat(path: Path, tokens: int) -> float:
    model = ChatModel(resolve_chat_target(str(path)), lambda words: None)
    messages, rates = [{"role": "user", "content": "Hello"}], []
    for seed in range(3):
        reply = model.reply(messages, "base", max_new_tokens=tokens, temperature=0.0, top_p=None, seed=seed,
                            on_text=lambda text: None, cancelled=lambda: False)
        rates.append(reply.tokens_per_second or 0.0)
    model.close()
    return max(rates)


def _generate(path: Path, device: torch.device, tokens: int) -> float:
    source = resolve_model(str(path))
    tokenizer, _ = load_tokenizer(source)
    model = load_model(source, dtype=pick_dtype("auto", device), device=device).eval()
    inputs = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], add_generation_prompt=True,
                                           return_dict=True, return_tensors="pt").to(device)

    def seconds(count: int) -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            model.generate(**inputs, do_sample=False, max_new_tokens=count, min_new_tokens=count,
                           pad_token_id=tokenizer.pad_token_id)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    seconds(tokens)
    # Chat counts the tokens after the first, so the prompt's pass is taken off here too.
    return max((tokens - 1) / (seconds(tokens) - seconds(1)) for _ in range(2))
