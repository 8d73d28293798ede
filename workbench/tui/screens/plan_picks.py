"""What can be chosen on the Plan screen: models, datasets, recipes."""

from pathlib import Path

from workbench.engine.catalog.models import list_models
from workbench.engine.data.formats import detect
from workbench.engine.data.sources import BUILT_IN, kind_of_file
from workbench.engine.errors import InputError
from workbench.engine.figures import count, gib
from workbench.engine.hardware.cards import CARDS, gpu_named
from workbench.engine.paths import recipes_dir
from workbench.engine.recipe_data import DatasetPart
from workbench.tui.row_reader import first_row
from workbench.tui.screens.picker import Pick

_MOST_FILES = 200
THIS_MACHINE = "this machine"


def model_picks() -> list[Pick]:
    """Every model that can be named, with its size and where it is."""
    words = {"builtin": "built in", "cache": "on this disk", "folder": "on this disk", "catalogue": "from the Hub"}
    return [Pick(model.name, f"{count(model.parameters):>6} {words[model.source]}") for model in list_models()]


def field_picks(picker: str | None, base_dir: Path) -> list[Pick]:
    """What can be chosen for a field."""
    if picker == "model":
        return model_picks()
    return dataset_picks(base_dir) if picker == "dataset" else template_picks(base_dir)


def card_picks() -> list[Pick]:
    """This machine, and common GPUs with their memory."""
    return [Pick(THIS_MACHINE, "the GPUs that are here"),
            *(Pick(name, gib(gpu_named(name).total_bytes)) for name in CARDS)]


def dataset_picks(base_dir: Path) -> list[Pick]:
    """Built-in datasets, and files and folders of rows beside the recipe, with the format of their first rows."""
    local = [path for path in sorted(base_dir.iterdir())
             if not path.name.startswith(".") and path.is_file() and kind_of_file(path) not in (None, "plain text")]
    return [*(Pick(name, f"built in · {format_of(name, base_dir)}") for name in BUILT_IN),
            *(Pick(path.name, f"{gib(path.stat().st_size)} · {format_of(path.name, base_dir)}")
              for path in local[:_MOST_FILES])]


def format_of(reference: str, base_dir: Path) -> str:
    """The format of a dataset's first row, whatever the objective; in words where it has none."""
    try:
        return detect(first_row(DatasetPart(path=reference), base_dir)).name
    except InputError:
        return "columns not known: say which is which in Data"


def template_picks(base_dir: Path | None) -> list[Pick]:
    """The chat templates that are shipped, and Jinja files beside the recipe."""
    shipped = {"auto": "the model's own, else plain", "chatml": "<|im_start|>user … <|im_end|>",
               "llama-3": "<|start_header_id|>user<|end_header_id|> …", "alpaca": "### Instruction: … ### Response:",
               "plain": "User: … Assistant:"}
    files = sorted((base_dir or Path.cwd()).glob("*.jinja*"))
    return [*(Pick(name, note) for name, note in shipped.items()), *(Pick(path.name, "a file here") for path in files)]


def recipe_picks() -> list[Pick]:
    """The recipes that are shipped, relative to their folder, and those in the current directory."""
    shipped = recipes_dir()
    paths = dict.fromkeys(path for root in (shipped, Path.cwd()) for path in sorted(root.glob("**/*.yaml"))
                          if root == shipped or path.parent == root)
    return [Pick(str(path.relative_to(shipped)) if shipped in path.parents else str(path), "") for path in paths]
