"""A base model without a template learns to stop under each of ours, and chat uses the one it was trained with."""

import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from workbench.engine.catalog.models import resolve_model
from workbench.engine.chat_target import ChatTarget
from workbench.engine.paths import assets_dir
from workbench.engine.recipe import DatasetSettings, Recipe, TrainingSettings
from workbench.worker.chat import ChatModel
from workbench.worker.data.templates import TEMPLATES, choose_template
from workbench.worker.loading import load_model, load_tokenizer
from workbench.worker.objectives.sft import build_trainer

pytestmark = pytest.mark.slow

LESSONS = {"Name a colour.": "Red.", "Name a fruit.": "Plum.", "Name a town.": "Rome.", "Name a tree.": "Oak.",
           "Count to three.": "One, two, three.", "Say a greeting.": "Good day."}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model as a base model comes: without a chat template."""
    folder = tmp_path_factory.mktemp("models") / "base"
    shutil.copytree(assets_dir() / "tiny_base", folder, ignore=shutil.ignore_patterns("*.jinja"))
    return folder


def stops(model: ChatModel, side: str) -> list[bool]:
    answers = [model.reply([{"role": "user", "content": question}], side, max_new_tokens=20, temperature=0.0,
                           top_p=None, seed=0, on_text=lambda text: None, cancelled=lambda: False)
               for question in LESSONS]
    return [answer.finish == "stop" and answer.text == lesson
            for answer, lesson in zip(answers, LESSONS.values(), strict=True)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_tuned_model_learns_to_stop(name: str, base: Path, tmp_path: Path) -> None:
    source = resolve_model(str(base))
    tokenizer, own = load_tokenizer(source)
    assert not own
    choose_template(tokenizer, name, own=own, model="base")
    rows = Dataset.from_list([{"messages": [{"role": "user", "content": question},
                                            {"role": "assistant", "content": answer}]}
                              for question, answer in LESSONS.items()])
    recipe = Recipe(model=str(base), dataset=DatasetSettings(path="-"), tuning="full", training=TrainingSettings(
        max_steps=40, per_device_train_batch_size=6, gradient_accumulation_steps=1, learning_rate=1e-3, max_length=96,
        gradient_checkpointing=False, lr_scheduler_type="constant", warmup_steps=0, logging_steps=40))
    trainer = build_trainer(recipe, load_model(source, dtype=torch.float32, device=CPU), tokenizer, rows, None, CPU,
                            str(tmp_path), [])
    before, after = tmp_path / "before", tmp_path / "after"
    trainer.save_model(str(before))
    trainer.train()
    trainer.save_model(str(after))

    def model(folder: Path) -> ChatModel:
        return ChatModel(ChatTarget(name, str(base), "base", model=folder, tuning="full"), lambda text: None)

    assert (after / "chat_template.jinja").read_text() == tokenizer.chat_template
    assert not any(stops(model(before), "tuned"))
    assert all(stops(model(after), "tuned"))
