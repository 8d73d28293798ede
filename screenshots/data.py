"""Pictures of Data in its states, and of the other screens for objectives and pipelines: `python screenshots/data.py`.

It trains the shipped dpo recipe and a pipeline first, in a home of its own; with WORKBENCH_HOME set, the runs there are
taken.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from make import SIZES, save

from workbench.engine.paths import recipes_dir
from workbench.engine.runs.chain import stage_of
from workbench.engine.runs.directory import RunDirectory, list_run_directories
from workbench.tui.app import WorkbenchApp

_TINY = "model: tiny-base\n"


def _support_rows() -> str:
    """Rows with faults as they come: a broken line, a repeated one, long ones."""
    rows = [json.dumps({"messages": [
        {"role": "user", "content": f"How do I reset the password of account {number}?"},
        {"role": "assistant", "content": "Open Settings, choose Security, and press Reset. " * (1 + number % 4)}]})
        for number in range(1, 241)]
    rows[6] = rows[6][:70]
    rows[20] = rows[21] = rows[10]
    return "\n".join(rows)


_ODD = "\n".join(json.dumps({"ticket": n, "customer_asks": f"Where is order {n}?", "we_say": "It is on its way."})
                 for n in range(1, 21))
_PAIRS = _TINY + "dataset: glossary-pairs\nobjective: dpo\ntraining: {max_length: 128}\n"
_SUPPORT = _TINY + "dataset: support.jsonl\ntraining: {max_length: 48}\n"
_RLHF = _TINY + "dataset: {path: [{path: glossary, weight: 2}, glossary-held-out]}\nobjective: rlhf\n" \
    "rlhf: {reward: [scores:short, 'length:80']}\n"


@dataclass(frozen=True)
class Scene:
    """A picture: the screen it begins on, the recipe, files beside it, and keys pressed once the data is checked."""

    name: str
    screen: str
    recipe: str
    files: dict[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    ascii: bool = False


_FILES = {"support.jsonl": _support_rows()}
SCENES = (
    Scene("data-pairs", "data", _PAIRS),
    Scene("data-problems", "data", _SUPPORT, _FILES, ("n",)),
    Scene("data-cut", "data", _SUPPORT, _FILES, ("down", "down")),
    Scene("data-findings", "data", _SUPPORT, _FILES, ("tab",)),
    Scene("data-packed", "data", _TINY + "dataset: glossary\ntraining: {max_length: 128, packing: true}\n", {}, ("p",)),
    Scene("data-columns", "data", _TINY + "dataset: tickets.jsonl\n", {"tickets.jsonl": _ODD},
          ("m", "down", "right", "right", "down", "right", "right", "right")),
    Scene("data-ascii", "data", _PAIRS, ascii=True),
    Scene("plan-dpo", "plan", _PAIRS, {}, ("up",)),
    Scene("plan-rlhf", "plan", _RLHF, {"scores.py": "def short(completions, **kwargs): ...\n"}, ("down", "down")),
    Scene("plan-findings", "plan", _SUPPORT, _FILES, ("ctrl+l",)),
)


async def shoot(scene: Scene, size: tuple[int, int]) -> None:
    """One scene at one size."""
    folder = Path(tempfile.mkdtemp())
    for name, text in {**scene.files, "recipe.yaml": scene.recipe}.items():
        (folder / name).write_text(text)
    app = WorkbenchApp(recipe=folder / "recipe.yaml", start=scene.screen, ascii_only=scene.ascii)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(0.5)
        while (check := app.checks.of(*app.planned)) is not None and not check.done:
            await pilot.pause(0.2)
        await pilot.pause(1)
        for key in scene.keys:
            await pilot.press(key)
            await pilot.pause(0.3)
        await pilot.pause(2 if scene.screen == "data" else 0.5)
        save(app.export_screenshot(), f"{scene.name}-{size[0]}x{size[1]}", size[0])
        print(scene.name, *size, flush=True)


async def shoot_run(name: str, screen: str, run: RunDirectory | None, size: tuple[int, int], *keys: str) -> None:
    """A screen of real runs."""
    app = WorkbenchApp(start=screen, run=run)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(3)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(0.5)
        save(app.export_screenshot(), f"{name}-{size[0]}x{size[1]}", size[0])
        print(name, *size, flush=True)


def train(*recipes: str) -> None:
    """Train shipped recipes, one after the other."""
    for recipe in recipes:
        subprocess.run([sys.executable, "-m", "workbench", "train", str(recipes_dir() / recipe)], check=True,
                       stdin=subprocess.DEVNULL)


def main() -> None:
    """Shoot everything, or the scenes named on the command line."""
    if "WORKBENCH_HOME" not in os.environ:
        os.environ["WORKBENCH_HOME"] = tempfile.mkdtemp()
        train("tiny/dpo_lora.yaml", "tiny/pipeline_sft_reward_rlhf.yaml")
    wanted = sys.argv[1:]
    for scene in (scene for scene in SCENES if not wanted or scene.name in wanted):
        for size in SIZES:
            asyncio.run(shoot(scene, size))
    runs = list_run_directories()
    stages = {place.stage: run for run in runs if (place := stage_of(run))}
    alone = next(run for run in runs if stage_of(run) is None)
    for size in SIZES if not wanted or "runs" in wanted else ():
        asyncio.run(shoot_run("watch-dpo", "watch", alone, size, "m"))
        asyncio.run(shoot_run("watch-pipeline", "watch", stages[2], size))
        asyncio.run(shoot_run("runs-pipeline", "runs", None, size))


if __name__ == "__main__":
    main()
