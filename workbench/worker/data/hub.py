"""Rows of datasets on the Hugging Face Hub, read as they come; what was downloaded before is used without a network."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets
from datasets import load_dataset
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import constants, get_session

from workbench.engine.data.sources import DataError
from workbench.engine.text import one_line

_SECONDS = 3.0
_UNREACHABLE = (ConnectionError, TimeoutError, OSError)


def hub_rows(name: str, config: str | None, split: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(1-based number, row) for each row of a split. Raises DataError, which says what to do."""
    where = f"{name}{f' ({config})' if config else ''}"
    try:
        rows = _open(name, config, split or "train")
    except DatasetNotFoundError:
        raise DataError(f"{name} is not a dataset on the Hub, or it is private or gated.",
                        "Check the id; for a gated one ask for access on its page and run `hf auth login`.") from None
    except ValueError as error:  # a config or a split that it does not have; the library's sentence lists them
        raise DataError(f"{where}: {one_line(str(error), 240)}", "Set dataset.config and dataset.split.") from None
    except _UNREACHABLE as error:
        raise DataError(f"{where} cannot be read from the Hub, and is not in the local cache: "
                        f"{one_line(str(error), 160)}",
                        "Check the network, or download it and give its path as dataset.path.") from None
    for number, row in enumerate(rows, 1):
        yield number, dict(row)


def _open(name: str, config: str | None, split: str | None) -> Any:
    if Path(name).is_dir():
        return load_dataset(name, config, split=split, streaming=True)
    with offline_when_unreachable() as reachable:
        # Prepared by an earlier download, it needs no network.
        return load_dataset(name, config, split=split, streaming=reachable)


@contextmanager
def offline_when_unreachable() -> Iterator[bool]:
    """Whether the Hub answers; while it does not, its libraries look into their caches at once, where else they would
    try again and again for a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
        reachable = True
    except Exception:  # whatever the HTTP library raises without a network
        reachable = False
    with ExitStack() as stack:
        for module in () if reachable else (constants, datasets.config):
            stack.enter_context(patch.object(module, "HF_HUB_OFFLINE", True))
        yield reachable
