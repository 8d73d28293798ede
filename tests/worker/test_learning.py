"""Every objective does what it claims, with its shipped LoRA recipe: the figures are printed (pytest -s)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import RunCommand
from workbench.engine.paths import assets_dir, recipes_dir
from workbench.worker.rewards import RewardModel

pytestmark = pytest.mark.slow


def trained(workbench: RunCommand, objective: str, *settings: str) -> dict[str, Any]:
    recipe = recipes_dir() / "tiny" / f"{objective}_lora.yaml"
    result = workbench("train", str(recipe), "--json", "--set", "samples.prompts=[]",
                       *(word for setting in settings for word in ("--set", setting)))
    assert result.returncode == 0, result.stdout + result.stderr
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


def curve(shown: dict[str, Any], name: str) -> list[float]:
    points = shown["metrics"][name]
    print(f"\n{shown['name']} {name}: {', '.join(f'{step}: {value:.3f}' for step, value in points)}")
    return [value for _, value in points]


def test_sft_answers_held_out_questions_better(workbench: RunCommand) -> None:
    losses = curve(trained(workbench, "sft"), "eval/loss")
    assert losses[-1] < 0.6 * losses[0]


def test_cpt_knows_held_out_text_better(workbench: RunCommand) -> None:
    losses = curve(trained(workbench, "cpt"), "eval/loss")
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(("objective", "least"), [("dpo", 0.3), ("rt", 0.2), ("kto", 0.3)])
def test_the_margin_rises_on_held_out_pairs(objective: str, least: float, workbench: RunCommand) -> None:
    """The margin is measured against the model as it was: it begins at zero."""
    shown = trained(workbench, objective)
    margins, losses = curve(shown, "eval/rewards/margins"), curve(shown, "eval/loss")
    assert abs(margins[0]) < 1e-3
    assert margins[-1] > least
    assert losses[-1] < losses[0]


def test_orpo_raises_the_odds_of_held_out_chosen_answers_and_learns_them(workbench: RunCommand) -> None:
    shown = trained(workbench, "orpo")
    odds, likelihoods = curve(shown, "eval/log_odds"), curve(shown, "eval/nll_loss")
    shares = curve(shown, "eval/rewards/accuracies")
    assert odds[-1] > odds[0] + 0.05
    assert shares[-1] > shares[0]
    assert likelihoods[-1] < 0.9 * likelihoods[0]


def test_reward_ranks_easy_held_out_pairs(workbench: RunCommand, tmp_path: Path) -> None:
    """Easy: the rejected answer brushes the question off. Neither its question nor its words are in the training."""
    rows = [row for number, row in enumerate(questions("glossary.jsonl")) if number % 3 == 0]
    data = tmp_path / "easy.jsonl"
    data.write_text("".join(
        json.dumps({"prompt": [question], "chosen": [answer], "rejected": [said(RUDE[number % len(RUDE)])]}) + "\n"
        for number, (question, answer) in enumerate(rows)))
    shown = trained(workbench, "reward", f"dataset.path={data}", "dataset.eval_path=null", "training.eval_steps=null")
    model = RewardModel(Path(shown["directory"]) / "model", torch.device("cpu"), torch.float32)
    held_out = questions("glossary_held_out.jsonl")
    prompts = [[question] for question, _ in held_out]
    chosen = model(prompts=prompts, completions=[[answer] for _, answer in held_out])
    rejected = model(prompts=prompts, completions=[[said(RUDE_HELD_OUT[number % len(RUDE_HELD_OUT)])]
                                                   for number in range(len(held_out))])
    right = sum((good or 0) > (bad or 0) for good, bad in zip(chosen, rejected, strict=True))
    print(f"\n{shown['name']}: {right} of {len(held_out)} easy held-out pairs ranked as they should be")
    assert right >= 0.9 * len(held_out)


def test_rlhf_raises_the_mean_reward(workbench: RunCommand) -> None:
    rewards = curve(trained(workbench, "rlhf"), "train/reward")
    assert rewards[-1] > rewards[0] + 0.1
    assert sum(rewards[-2:]) / 2 > max(rewards[:2])


def questions(name: str) -> list[tuple[dict[str, str], dict[str, str]]]:
    rows = [json.loads(line)["messages"] for line in (assets_dir() / name).read_text().splitlines()]
    return [(question, answer) for question, answer in rows]


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


RUDE = (
    "I do not want to talk about this.", "Go and ask somebody else.", "Who cares about that?", "No idea, leave me be.",
    "That is a stupid question.", "You should know that yourself.", "I am too busy for this now.", "Whatever you say.",
    "Do your own work.", "I will not tell you.", "Nobody needs to know that.", "Why do you always ask me?",
)
RUDE_HELD_OUT = (
    "I will not answer you.", "Ask me something else.", "You are too stupid for this.", "Leave me alone now.",
    "I have no time for you.", "Nobody cares what you want.", "Do not ask me that.",
)
