"""What must not change what is learned: how a batch is cut into micro-batches, and whether rows are packed."""

import json
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Trainer

from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.paths import assets_dir
from workbench.engine.recipe import DatasetSettings, Recipe, TrainingSettings
from workbench.worker.data.packing import refuse_leaking_packs
from workbench.worker.loading import load_model, load_tokenizer
from workbench.worker.objectives import objective_module

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def rows_of(name: str, count: int = 8) -> list[dict[str, Any]]:
    with (assets_dir() / f"{name}.jsonl").open() as file:
        return [json.loads(next(file)) for _ in range(count)]


CONVERSATIONS, PAIRS = rows_of("glossary"), rows_of("glossary_pairs")
ROWS = {"sft": CONVERSATIONS, "cpt": [{"text": row["messages"][1]["content"]} for row in CONVERSATIONS], "dpo": PAIRS,
        # Pairs and demonstrations mixed.
        "orpo": [{**row, "rejected": row["rejected"] if place % 3 else None} for place, row in enumerate(PAIRS)]}


def trainer_of(objective: str, folder: Any, attention: str = "sdpa", **training: Any) -> Trainer:
    settings = {"max_length": 256, "gradient_checkpointing": False, "learning_rate": 1e-3, "warmup_steps": 0,
                "lr_scheduler_type": "constant", "max_steps": 1, "logging_steps": 1, "optim": "sgd",
                "max_grad_norm": 0.0, **training}
    recipe = Recipe.model_validate({"model": "tiny-base", "dataset": DatasetSettings(path="-"), "tuning": "full",
                                    "objective": objective, "training": TrainingSettings(**settings)})
    source = resolve_model(recipe.model)
    module = objective_module(objective)
    model, more = load_model(source, dtype=torch.float32, device=CPU, attn_implementation=attention), {}
    if getattr(module, "NEEDS_REFERENCE", False):
        more["reference"] = load_model(source, dtype=torch.float32, device=CPU)
    return build(module, recipe, model, objective, folder, **more)


def build(module: ModuleType, recipe: Recipe, model: Any, objective: str, folder: Any, **more: Any) -> Trainer:
    tokenizer, rows = load_tokenizer(resolve_model("tiny-base"))[0], Dataset.from_list(ROWS[objective])
    trainer: Trainer = module.build_trainer(recipe, model, tokenizer, rows, None, CPU, str(folder), [], **more)
    return trainer


@pytest.mark.parametrize("objective", ROWS)
def test_eight_accumulated_rows_are_a_batch_of_eight(objective: str, tmp_path: Any) -> None:
    results = []
    for size, steps in ((8, 1), (1, 8)):
        trainer = trainer_of(objective, tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=steps)
        trainer.train()
        weights = torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
        results.append((trainer.state.log_history[0]["loss"], weights))
    (loss, weights), (accumulated_loss, accumulated_weights) = results
    start = torch.cat([weight.detach().flatten() for weight in
                       load_model(resolve_model("tiny-base"), dtype=torch.float32, device=CPU).parameters()])
    assert accumulated_loss == pytest.approx(loss, rel=1e-5)
    moved = (weights - start).norm()
    assert moved > 1e-4
    assert (accumulated_weights - weights).norm() < 1e-3 * moved


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_have_the_loss_that_they_have_alone(attention: str, tmp_path: Any) -> None:
    alone, packed = trainer_of("sft", tmp_path, attention), trainer_of("sft", tmp_path, attention, packing=True)
    assert len(packed.train_dataset) < len(alone.train_dataset) == 8
    batch = packed.data_collator(list(packed.train_dataset))
    model = packed.model.eval()
    with torch.no_grad():
        together = model(**{name: batch[name] for name in ("input_ids", "position_ids")}, use_cache=False).logits[0]
        starts = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist(), len(together)]
        for start, end in pairwise(starts):
            ids, labels = batch["input_ids"][:, start:end], batch["labels"][0, start + 1:end]
            losses = [torch.nn.functional.cross_entropy(logits[:-1], labels, ignore_index=-100).item()
                      for logits in (together[start:end], model(input_ids=ids, use_cache=False).logits[0])]
            assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    # And so has the trainer's own.
    whole = [trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset))).item()
             for trainer in (alone, packed)]
    assert whole[1] == pytest.approx(whole[0], rel=1e-5)
    refuse_leaking_packs(packed)


def test_a_model_whose_packed_rows_see_each_other_is_refused(tmp_path: Any) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=3072, hidden_size=32, state_size=4, num_hidden_layers=2,
                                         initializer_range=0.5))
    recipe = Recipe(model="tiny-base", dataset=DatasetSettings(path="-"), tuning="full",
                    training=TrainingSettings(max_length=256, packing=True, gradient_checkpointing=False))
    trainer = build(objective_module("sft"), recipe, model, "sft", tmp_path)
    with pytest.raises(InputError, match=r"Packed rows see each other in this model \(mamba\)"):
        refuse_leaking_packs(trainer)
