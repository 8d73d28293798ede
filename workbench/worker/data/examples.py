"""Interim: the built-in data as canonical examples."""

from pathlib import Path
from typing import Any

from datasets import Dataset, disable_progress_bars

from workbench.engine.data.sources import read_rows, resolve_dataset
from workbench.engine.recipe import Recipe

disable_progress_bars()


def load_examples(recipe: Recipe, base_dir: Path | None, on_rejected: Any = None) -> tuple[Dataset, Dataset | None]:
    """(train, eval or None)."""
    found = [_read(reference, recipe.objective, base_dir) for reference in (recipe.dataset.path, recipe.dataset.eval_path)
             if reference]
    train = found[0]
    if recipe.dataset.max_rows:
        train = train.select(range(min(recipe.dataset.max_rows, len(train))))
    return train, found[1] if len(found) > 1 else None


def _read(reference: str, objective: str, base_dir: Path | None) -> Dataset:
    path = resolve_dataset(reference, base_dir).path
    return Dataset.from_list([example for _, row in read_rows(path) for example in _examples(row, objective)])


def _examples(row: dict[str, Any], objective: str) -> list[dict[str, Any]]:
    if objective == "sft":
        return [{"messages": row["messages"]}]
    if objective == "cpt":
        return [{"text": row["text"]}]
    if objective == "rlhf":
        turns = row["messages"]
        return [{"prompt": turns[:-1], "answer": turns[-1]["content"]}]
    if objective == "orpo" and "messages" in row:
        return [{"prompt": row["messages"][:-1], "chosen": row["messages"][-1:], "rejected": None}]
    prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
    if objective == "rt":
        return [{"chosen": chosen[0]["content"], "rejected": rejected[0]["content"]}]
    if objective == "kto":
        return [{"prompt": prompt, "completion": chosen, "label": True},
                {"prompt": prompt, "completion": rejected, "label": False}]
    if objective == "reward":
        return [{"chosen": prompt + chosen, "rejected": prompt + rejected}]
    return [{"prompt": prompt, "chosen": chosen, "rejected": rejected}]
