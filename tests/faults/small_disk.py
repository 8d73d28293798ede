"""A home on a disk of its own that is soon full."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workbench.engine.runs.liveness import ProcessIdentity
from workbench.engine.runs.store import read_json


@contextmanager
def small_home(home: Path, size: str) -> Iterator[Path]:
    """The home on a file system of `size`, as mount says it (`4m`); skips where none can be mounted. What still runs
    in it at the end is killed."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(home)], capture_output=True,
                             text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield home
    for status in home.glob("runs/*/status.json"):
        for role in ("supervisor", "worker"):
            if (found := ProcessIdentity.from_json(read_json(status).get(role))) is not None:
                found.signal(9)
    subprocess.run(["umount", "-l", str(home)], check=True)
