"""Pictures of Plan on machines that are not here, and of Explain: `python screenshots/plan.py`."""

import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from make import SIZES, save

from workbench.engine.hardware.gpus import Gpu
from workbench.engine.hardware.host import HostSnapshot
from workbench.tui.app import WorkbenchApp

GIB = 1024**3
_A100 = ("NVIDIA A100-SXM4-80GB", 79.25, 78.8)
_H100 = ("NVIDIA H100 80GB HBM3", 79.6, 79.1)
_RTX = ("NVIDIA GeForce RTX 4090", 23.99, 23.1)


@dataclass(frozen=True)
class Scene:
    """A picture: GPUs as (name, GiB in all, GiB free), the recipe's lines, the keys pressed, in seven bits or not."""

    name: str
    gpus: tuple[tuple[str, float, float], ...]
    recipe: str
    keys: tuple[str, ...] = ()
    ascii: bool = False


_LLAMA = "model: meta-llama/Llama-3.1-8B\ndataset: glossary\n"
_LARGE = "model: meta-llama/Llama-3.1-70B\ndataset: glossary\n"
SCENES = (
    Scene("plan-one-gpu", (_RTX,), _LLAMA),
    Scene("plan-too-big", (_RTX,), _LLAMA + "tuning: full\n"),
    Scene("plan-two-gpus", (_A100, _A100), _LLAMA),
    Scene("plan-eight-gpus", (_H100,) * 8, _LARGE + "tuning: qlora\n"),
    Scene("plan-mixed-gpus", (_A100, _A100, _RTX), _LLAMA),
    Scene("plan-ascii", (_A100, _A100, _RTX), _LLAMA, ascii=True),
    Scene("explain-lora", (_RTX,), _LLAMA, ("e",)),
    Scene("explain-quantization", (), "model: tiny-base\ndataset: glossary\n", ("e", "right", "right", "end")),
)


async def shoot(scene: Scene, size: tuple[int, int]) -> None:
    """One scene at one size."""
    gpus = [Gpu(index, f"GPU-{index}", name, int(total * GIB), int(free * GIB), int((total - free) * GIB), 0, 34, 60.0)
            for index, (name, total, free) in enumerate(scene.gpus)]
    recipe = Path(tempfile.mkdtemp()) / "support-bot.yaml"
    recipe.write_text(scene.recipe)
    host = HostSnapshot(3.0, 256 * GIB, 240 * GIB, 0.4, 32)
    app = WorkbenchApp(recipe=recipe, hardware=lambda: (gpus, host), ascii_only=scene.ascii)
    async with app.run_test(size=size) as pilot:
        for key in ("", *scene.keys):
            await pilot.press(*([key] if key else []))
            await pilot.pause(0.5)
            await app.workers.wait_for_complete()
        await pilot.pause(0.5)
        save(app.export_screenshot(), f"{scene.name}-{size[0]}x{size[1]}", size[0])
        print(scene.name, *size, flush=True)


def main() -> None:
    """Shoot every scene at every size."""
    os.environ["WORKBENCH_HOME"] = tempfile.mkdtemp()
    for scene in SCENES:
        for size in SIZES:
            asyncio.run(shoot(scene, size))


if __name__ == "__main__":
    main()
