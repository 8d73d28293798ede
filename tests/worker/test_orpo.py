"""Our ORPO: equal to trl's experimental trainer on pairs, plain NLL on demonstrations, and both from a stream."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback

from tests.conftest import RunCommand
from workbench.engine.catalog.models import resolve_model
from workbench.engine.data.sources import resolve_dataset
from workbench.engine.recipe import Recipe
from workbench.worker.loading import load_model
from workbench.worker.objectives.answers import tokenized_pairs
from workbench.worker.objectives.orpo import OrpoTrainer, build_trainer

PAIRS = [("What is LoRA?", " Small matrices.", " A radio for long range, and more."), ("Say", " yes", " no, never")]

CONVERSATIONS = [
    {"prompt": [{"role": "user", "content": "What is LoRA?"}],
     "chosen": [{"role": "assistant", "content": "Two small matrices."}],
     "rejected": [{"role": "assistant", "content": "A radio."}]},
    {"prompt": [{"role": "user", "content": "Say yes."}], "chosen": [{"role": "assistant", "content": "Yes."}],
     "rejected": None},
]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> OrpoTrainer:
    source = resolve_model("tiny-base")
    tokenizer = AutoTokenizer.from_pretrained(source.path)
    model = load_model(source, dtype=torch.float32, device=torch.device("cpu"))
    recipe = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", "objective": "orpo", "tuning": "full",
                                    "training": {"gradient_checkpointing": False, "max_length": 64}}, strict=False)
    return build_trainer(recipe, model, tokenizer, Dataset.from_list(CONVERSATIONS), None, torch.device("cpu"),
                         str(tmp_path_factory.mktemp("orpo")), [])


def rows(tokenizer: Any) -> list[dict[str, list[int]]]:
    return [{name: tokenizer(text, add_special_tokens=False)["input_ids"]
             for name, text in zip(("prompt_ids", "chosen_ids", "rejected_ids"), pair, strict=True)} for pair in PAIRS]


def loss(trainer: OrpoTrainer, wanted: list[dict[str, list[int]]]) -> torch.Tensor:
    return trainer.compute_loss(trainer.model, trainer.data_collator(wanted))


def as_trl(trainer: OrpoTrainer, tmp_path: Path, wanted: list[dict[str, list[int]]]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer
    batch = trainer.data_collator(wanted)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    half = len(wanted)
    theirs: dict[str, torch.Tensor] = {}
    for name, part in (("chosen", slice(0, half)), ("rejected", slice(half, None))):
        theirs |= {f"{name}_input_ids": batch["input_ids"][part], f"{name}_labels": labels[part],
                   f"{name}_attention_mask": batch["attention_mask"][part]}
    other = ORPOTrainer(model=trainer.model, processing_class=trainer.processing_class,
                        args=ORPOConfig(output_dir=str(tmp_path), beta=trainer.orpo_alpha, report_to="none",
                                        use_cpu=True, bf16=False),
                        train_dataset=Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), pair, strict=True))
                                                         for pair in PAIRS]))
    found: torch.Tensor = other.get_batch_loss_metrics(trainer.model, theirs)[0]
    return found


def test_pairs_have_the_loss_of_trls_trainer(trainer: OrpoTrainer, tmp_path: Path) -> None:
    wanted = rows(trainer.processing_class)
    torch.testing.assert_close(loss(trainer, wanted), as_trl(trainer, tmp_path, wanted), atol=1e-5, rtol=1e-5)


def test_a_demonstration_adds_its_likelihood_alone(trainer: OrpoTrainer) -> None:
    row = {**rows(trainer.processing_class)[0], "rejected_ids": None}
    ids = torch.tensor([row["prompt_ids"] + row["chosen_ids"]])
    expected = trainer.model(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(loss(trainer, [row]), expected, atol=1e-5, rtol=1e-5)


def test_pairs_and_demonstrations_mix(trainer: OrpoTrainer) -> None:
    pair, other = rows(trainer.processing_class)
    alone, plain, mixed = (loss(trainer, wanted) for wanted in (
        [pair], [{**pair, "rejected_ids": None}], [{**other, "rejected_ids": None}, pair]))
    without = loss(trainer, [{**other, "rejected_ids": None}, {**pair, "rejected_ids": None}])
    torch.testing.assert_close(mixed - without, (alone - plain) / 2, atol=1e-5, rtol=1e-4)  # a mean over two rows


def test_an_evaluation_between_two_logs_keeps_its_figures_apart(trainer: OrpoTrainer) -> None:
    logged: list[dict[str, float]] = []
    trainer.add_callback(type("Logs", (TrainerCallback,), {
        "on_log": lambda self, args, state, control, logs, **_: logged.append(dict(logs))}))
    better, worse = ({**row, "chosen_ids": row[f"{name}_ids"], "rejected_ids": row[f"{other}_ids"]}
                     for row in rows(trainer.processing_class)[:1]
                     for name, other in (("chosen", "rejected"), ("rejected", "chosen")))
    with torch.no_grad():
        for mode in (trainer.model.eval, trainer.model.train):  # what others computed before is not of this test
            mode()
            trainer.log({})
        logged.clear()
        loss(trainer, [better])
        trainer.model.eval()
        loss(trainer, [worse])
        trainer.log({"eval_loss": 1.0})
        trainer.model.train()
        trainer.log({"loss": 1.0})
    (evaluated, learned), margin = logged, "rewards/margins"
    assert evaluated[f"eval_{margin}"] == pytest.approx(-learned[margin], rel=1e-4)


def test_answers_are_told_apart_and_end(trainer: OrpoTrainer) -> None:
    tokenizer = trainer.processing_class
    pair, demonstration = trainer.train_dataset
    assert tokenizer.decode(pair["prompt_ids"]) == "<|user|>What is LoRA?<|end|><|assistant|>"
    assert tokenizer.decode(pair["chosen_ids"]) == "Two small matrices.<|end|>"
    assert tokenizer.decode(pair["rejected_ids"]) == "A radio.<|end|>"
    assert demonstration["rejected_ids"] is None
    assert trainer.data_collator([demonstration, pair])["paired"].tolist() == [1]


def test_a_template_without_an_end_gets_one(trainer: OrpoTrainer) -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve_model("tiny-base").path)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    row, _ = tokenized_pairs(Dataset.from_list(CONVERSATIONS), tokenizer, 64)
    assert [row[name][-1] for name in ("chosen_ids", "rejected_ids")] == [tokenizer.eos_token_id] * 2
    assert tokenizer.eos_token_id not in row["prompt_ids"]


def test_a_stream_of_pairs_and_demonstrations_trains_from_the_command_line(workbench: RunCommand,
                                                                           tmp_path: Path) -> None:
    lines = (resolve_dataset("glossary-pairs").path.read_text().splitlines()[:24]  # type: ignore[union-attr]
             + resolve_dataset("glossary").path.read_text().splitlines()[:24])  # type: ignore[union-attr]
    (tmp_path / "mixed.jsonl").write_text("\n".join(lines[place] for pair in zip(range(24), range(24, 48), strict=True)
                                                    for place in pair))
    recipe = tmp_path / "orpo.yaml"
    recipe.write_text(
        "model: tiny-base\nobjective: orpo\n"
        "dataset: {path: [{path: mixed.jsonl, weight: 3}, {path: glossary-held-out, weight: 1}], streaming: true,\n"
        "  eval_path: glossary-pairs-held-out}\n"
        "training: {max_steps: 5, per_device_train_batch_size: 4, gradient_accumulation_steps: 2, max_length: 96,\n"
        "  logging_steps: 1, save_steps: null, eval_steps: 5, per_device_eval_batch_size: 16}\n")
    result = workbench("train", str(recipe), "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    shown = json.loads(result.stdout)
    assert (shown["state"], shown["step"]) == ("finished", 5)
    assert len(shown["losses"]) == 5
    metrics = shown["metrics"]
    assert {"train/nll_loss", "train/log_odds", "train/rewards/margins", "train/num_tokens"} <= metrics.keys()
    assert [step for step, _ in metrics["eval/log_odds"]] == [0, 5]
    counted = [count for _, count in metrics["train/num_tokens"]]
    assert counted == sorted(counted)
    assert counted[0] > 8 * 20  # eight rows a step, some of them pairs
