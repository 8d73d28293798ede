"""What can be chosen on the Plan screen: models, datasets, recipes."""

from pathlib import Path

from workbench.engine.catalog.models import list_models
from workbench.engine.data.sources import BUILT_IN
from workbench.engine.figures import count, gib
from workbench.engine.hardware.cards import CARDS, gpu_named
from workbench.engine.paths import recipes_dir
from workbench.tui.screens.picker import Pick

THIS_MACHINE = "this machine"


def model_picks() -> list[Pick]:
    """Every model that can be named, with its size and where it is."""
    words = {"builtin": "built in", "cache": "on this disk", "folder": "on this disk", "catalogue": "from the Hub"}
    return [Pick(model.name, f"{count(model.parameters):>6} {words[model.source]}") for model in list_models()]


def card_picks() -> list[Pick]:
    """This machine, and common GPUs with their memory."""
    return [Pick(THIS_MACHINE, "the GPUs that are here"),
            *(Pick(name, gib(gpu_named(name).total_bytes)) for name in CARDS)]


def dataset_picks(base_dir: Path) -> list[Pick]:
    """Built-in datasets, and files beside the recipe."""
    local = [path for path in sorted(base_dir.iterdir()) if path.suffix in (".jsonl", ".json", ".ndjson")]
    return [*(Pick(name, "built in") for name in BUILT_IN if "pairs" not in name),
            *(Pick(path.name, gib(path.stat().st_size)) for path in local)]


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
