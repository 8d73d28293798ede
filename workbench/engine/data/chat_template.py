"""Which chat template a recipe's `data.chat_template` means: one of ours by its name, or a Jinja file."""

from pathlib import Path

from workbench.engine.errors import InputError
from workbench.engine.text import nearest

NAMES = ("auto", "chatml", "llama-3", "alpaca", "plain")
"""auto: the model's own, or plain for a model without one."""


def resolve_chat_template(wanted: str, base_dir: Path | None = None) -> str:
    """The name, or the file's absolute path; relative ones start from `base_dir`. Raises InputError."""
    if wanted in NAMES:
        return wanted
    path = Path(wanted).expanduser()
    path = path if path.is_absolute() else (base_dir or Path.cwd()) / path
    if not path.is_file():
        guess = nearest(wanted, NAMES)
        raise InputError(f"data.chat_template is {wanted!r}: there is no such template, and no such file.",
                         f"Did you mean {guess}?" if guess else f"Built in: {', '.join(NAMES)}.")
    return str(path.resolve())
