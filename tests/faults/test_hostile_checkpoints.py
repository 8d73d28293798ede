"""A checkpoint with pickles in it, and a manifest that fits them: going on from it runs nothing of theirs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

from tests.forked import go_on, make_run, small_model, work
from tests.worker.test_resume_exact import RECIPE
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs.journal import read_tail
from workbench.engine.runs.manifest import MANIFEST, verify

pytestmark = pytest.mark.slow


class Pickled:
    """Writes the sentinel when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self._sentinel = sentinel

    def __reduce__(self) -> Any:
        return Path.write_text, (self._sentinel, "pwned")


def test_pickles_in_a_checkpoint_are_not_run(home: Path, tmp_path: Path) -> None:
    run = make_run(parse_recipe(RECIPE.format(model=small_model(tmp_path / "model"))))
    assert work(run, at=(9, "SIGKILL")) == -9
    checkpoint = go_on(run)
    assert checkpoint is not None
    folder = run.path / checkpoint
    manifest = json.loads((folder / MANIFEST).read_text())
    states = [name for name in manifest["files"] if name.endswith((".pt", ".pth", ".bin"))]
    assert "optimizer.pt" in states
    whole = {name: (folder / name).read_bytes() for name in states}
    for name in states:
        sentinel = tmp_path / f"sentinel-{name}"
        for other, content in whole.items():
            (folder / other).write_bytes(content)
        torch.save(Pickled(sentinel), folder / name)
        content = (folder / name).read_bytes()
        files = {**manifest["files"], name: {"size": len(content), "xxh3_128": xxhash.xxh3_128_hexdigest(content)}}
        (folder / MANIFEST).write_text(json.dumps({**manifest, "files": files}))
        assert verify(folder) is None, "the attack is as good as it can be"
        assert work(run, checkpoint) == 1
        ended = read_tail(run.events)[-1]
        assert (ended["type"], ended["outcome"]) == ("ended", "failed")
        assert not sentinel.exists(), "it ran"
