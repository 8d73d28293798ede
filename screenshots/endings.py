"""Pictures of runs that failed, crashed or rest: `python -m screenshots.endings`."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from screenshots.make import SIZES, save
from tests.tui.synthetic import SyntheticRun, one_gpu, supervised
from workbench.engine.runs.directory import RunDirectory
from workbench.tui.app import WorkbenchApp


def _trained(home: Path, name: str) -> SyntheticRun:
    return SyntheticRun(home, name).start().recipe().sample(0).steps(1, 137)


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


SCENES = {"watch-failed": (out_of_memory, ()), "watch-apply": (out_of_memory, ("a",)), "watch-crashed": (crashed, ()),
          "watch-living-worker": (living_worker, ()), "watch-stop": (living_worker, ("s",)),
          "watch-paused": (paused, ())}


async def shoot(run: RunDirectory, name: str, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    """One scene at one size."""
    app = WorkbenchApp(start="watch", run=run, hardware=one_gpu)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(1.5)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(0.5)
        save(app.export_screenshot(), f"{name}-{size[0]}x{size[1]}", size[0])
        print(name, *size, flush=True)


def main() -> None:
    """Shoot every scene at every size."""
    for name, (scene, keys) in SCENES.items():
        for size in SIZES:
            os.environ["WORKBENCH_HOME"] = tempfile.mkdtemp()
            with scene(Path(os.environ["WORKBENCH_HOME"])) as run:
                asyncio.run(shoot(run, name, size, keys))


if __name__ == "__main__":
    main()
