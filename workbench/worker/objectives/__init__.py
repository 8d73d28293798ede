"""Training objectives, one readable file each: `build_trainer`, and the rows of a worst-case micro-batch."""

import importlib
from types import ModuleType


def objective_module(objective: str) -> ModuleType:
    """The module of an objective. Imported when asked for: each brings a trainer of trl along."""
    return importlib.import_module(f"workbench.worker.objectives.{objective}")
