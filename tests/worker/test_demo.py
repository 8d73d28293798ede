"""The demo does what the README promises: it learns, and shows it."""

import json

import pytest

from tests.conftest import RunCommand

pytestmark = pytest.mark.slow


def test_the_demo_teaches_the_glossary(workbench: RunCommand) -> None:
    result = workbench("demo")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("run ")
    assert any(line.startswith("step ") and "loss" in line for line in lines)
    assert lines[-1].startswith("finished at step") or any(line.startswith("finished at step") for line in lines[-3:])

    shown = json.loads(workbench("show", "last", "--json").stdout)
    losses = [loss for _, loss in shown["losses"]]
    assert sum(losses[-5:]) / 5 <= 0.6 * sum(losses[:3]) / 3
    held_out = [loss for _, loss in shown["metrics"]["eval/loss"]]
    assert held_out[-1] < held_out[0]

    by_prompt: dict[str, dict[int, str]] = {}
    for sample in shown["samples"]:
        by_prompt.setdefault(sample["prompt"], {})[sample["step"]] = sample["text"]
    for prompt, texts in by_prompt.items():
        assert len(texts) >= 3
        assert texts[max(texts)] != texts[0], prompt
    last = {prompt: texts[max(texts)] for prompt, texts in by_prompt.items()}
    on_topic = {"EOS token": ("EOS token", "end of"), "learning rate": ("learning rate", "update"),
                "chat template": ("chat template", "messages"), "reward model": ("reward model", "score"),
                "QLoRA": ("QLoRA", "base model")}
    assert any(term in prompt and all(word in text for word in words)
               for prompt, text in last.items() for term, words in on_topic.items()), last
