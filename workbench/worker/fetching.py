"""Model files on this disk: what is there is checked by name, what is missing is fetched from the Hub or explained."""

from pathlib import Path

from huggingface_hub import snapshot_download

from workbench.engine.catalog.completeness import IncompleteModelError, check_model_files, refuse_code_settings
from workbench.engine.catalog.models import ModelSource
from workbench.engine.hub import HubError, ask_hub, endpoint

_SETTINGS = ["*.json", "*.jinja", "*.model", "*.txt"]
_WEIGHTS = ["*.safetensors"]
# Copies in other formats lie in folders beside the model's own files.
_NOT_WANTED = ["*/*"]


def model_folder(source: ModelSource, weights: bool = True, tokenizer: bool = True) -> Path:
    """The folder of a model's files, checked, and fetched from the Hub where they are not on this disk.

    `weights` and `tokenizer`: what is needed of both. Raises InputError, which names the file and the way out;
    HubError within seconds where the Hub does not give it.
    """
    refuse_code_settings(source.config, source.name)
    incomplete: IncompleteModelError | None = None
    if source.path is not None:
        try:
            check_model_files(source.path, source.name, weights, tokenizer)
        except IncompleteModelError as error:
            if source.kind != "cache":
                raise
            incomplete = error
        else:
            return source.path
    answer = ask_hub(source.name)
    if answer.status != "ok":
        raise HubError(f"{incomplete.message} {answer.message}" if incomplete else answer.message, answer.fix)
    wanted = [*_SETTINGS, *(_WEIGHTS if weights else [])]
    folder = Path(snapshot_download(source.name, allow_patterns=wanted, ignore_patterns=_NOT_WANTED,
                                    endpoint=endpoint()))
    check_model_files(folder, source.name, weights, tokenizer)
    return folder
