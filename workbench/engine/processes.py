"""What a child process of ours is given to start with."""

import os
from pathlib import Path

from workbench.engine.paths import home_dir


def child_environment() -> dict[str, str]:
    """Our environment, with what is relative in it made absolute: children work in directories of their own.

    PYTHONSAFEPATH keeps a file in such a directory from shadowing a library.
    """
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONSAFEPATH": "1",
            "WORKBENCH_HOME": str(home_dir())}
