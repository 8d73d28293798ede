"""Pictures of runs that failed, crashed or rest, and of a preflight's question: `python -m screenshots.endings`."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from screenshots.make import SIZES, save
from tests.tui.synthetic import GIB, HOST, SyntheticRun, one_gpu, supervised
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.hardware.host import HostSnapshot
from workbench.engine.runs.directory import RunDirectory
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.confirm import ConfirmScreen


def _trained(home: Path, name: str) -> SyntheticRun:
    return SyntheticRun(home, name).start().sample(0).steps(1, 137)


@contextmanager
def out_of_memory(home: Path) -> Iterator[RunDirectory]:
    """A run that was restarted once, then needed too much."""
    run = _trained(home, "support-bot")
    run.checkpoint(50).event("restarted", step=50, checkpoint="checkpoints/step-00000050", cause="killed", attempt=1,
                             of=3, explanation="The worker was killed (SIGKILL).", changes={})
    run.reporter.started()
    yield run.steps(51, 137).fail().run


@contextmanager
def living_worker(home: Path) -> Iterator[RunDirectory]:
    """A run whose supervisor was killed while its worker trains."""
    run = _trained(home, "support-bot").checkpoint(100)
    with supervised(run.run, "worker.lock"):
        yield run.run


@contextmanager
def crashed(home: Path) -> Iterator[RunDirectory]:
    """A run whose machine went down."""
    yield _trained(home, "support-bot").checkpoint(100).run


@contextmanager
def paused(home: Path) -> Iterator[RunDirectory]:
    """A run that waits to go on."""
    run = _trained(home, "support-bot").checkpoint(137)
    yield run.event("paused", step=137, checkpoint="checkpoints/step-00000137").run


def small_gpu() -> tuple[list[Gpu], HostSnapshot]:
    """A machine on which little fits."""
    return [Gpu(0, "GPU-0", "NVIDIA GeForce RTX 4090", 24 * GIB, 23 * GIB, GIB, 0, 34, 60.0)], HOST


def _too_big() -> Path:
    recipe = Path(tempfile.mkdtemp()) / "support-bot.yaml"
    recipe.write_text("model: meta-llama/Llama-3.1-8B\ndataset: glossary\ntuning: full\n")
    return recipe


SCENES = {"watch-failed": (out_of_memory, ()), "watch-apply": (out_of_memory, ("a",)), "watch-crashed": (crashed, ()),
          "watch-living-worker": (living_worker, ()), "watch-stop": (living_worker, ("s",)),
          "watch-paused": (paused, ())}


async def shoot(app: WorkbenchApp, name: str, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    """One scene at one size; where its keys ask something, with the question."""
    async with app.run_test(size=size) as pilot:
        await pilot.pause(1.5)
        for key in keys:
            await pilot.press(key)
            for _ in range(20):
                await pilot.pause(0.5)
                if isinstance(app.screen, ConfirmScreen):
                    break
        save(app.export_screenshot(), f"{name}-{size[0]}x{size[1]}", size[0])
        print(name, *size, flush=True)


def main() -> None:
    """Shoot every scene at every size."""
    for name, (scene, keys) in SCENES.items():
        for size in SIZES:
            os.environ["WORKBENCH_HOME"] = tempfile.mkdtemp()
            with scene(Path(os.environ["WORKBENCH_HOME"])) as run:
                asyncio.run(shoot(WorkbenchApp(start="watch", run=run, hardware=one_gpu), name, size, keys))
    for size in SIZES:
        asyncio.run(shoot(WorkbenchApp(recipe=_too_big(), hardware=small_gpu), "plan-preflight", size, ("ctrl+l",)))


if __name__ == "__main__":
    main()
