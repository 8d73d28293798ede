"""Where things lie: the user's home of runs, the shipped assets, the shipped recipes."""

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def assets_dir() -> Path:
    """The shipped tiny model, datasets and catalogue."""
    return _PACKAGE / "assets"


def recipes_dir() -> Path:
    """The shipped recipes: beside the package in a checkout, inside it when installed from a wheel."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parent / "recipes"


def home_dir() -> Path:
    """`$WORKBENCH_HOME`, else the platform's user data directory. Not created here."""
    override = os.environ.get("WORKBENCH_HOME")
    if override:
        return Path(override).expanduser().resolve()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "workbench"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "workbench"


def runs_dir() -> Path:
    """The directory that holds one directory per run. Not created here."""
    return home_dir() / "runs"
