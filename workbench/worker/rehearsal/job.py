"""The rehearsal job: a recipe on stdin, JSON lines on stdout, `progress` ones and a last `done` or `error`.

{type: progress, text, share} · {type: done, peak_bytes, …} · {type: error, message, hint, input}
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import orjson

from workbench.engine.errors import InputError, WorkbenchError
from workbench.engine.text import one_line

Progress = Callable[[str, float], None]


def main() -> int:
    """Rehearse the one recipe on stdin."""
    # Libraries print to stdout; what they say must not mix with the protocol.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def answer(kind: str, **fields: Any) -> None:
        answers.write(orjson.dumps({"type": kind, **fields}, option=orjson.OPT_APPEND_NEWLINE))

    request = orjson.loads(sys.stdin.buffer.read())
    try:
        answer("done", **rehearse(request, lambda text, share: answer("progress", text=text, share=share)))
    except Exception as error:  # whatever a library raises on an unusual model is told in a sentence
        traceback.print_exc()
        if isinstance(error, WorkbenchError):
            answer("error", message=error.message, hint=error.hint, input=isinstance(error, InputError))
        else:
            text = one_line(str(error), 300)
            answer("error", message=f"The trainer cannot be rehearsed: {type(error).__name__}: {text}", hint=None,
                   input=False)
        return 1
    return 0


def _do_without_compiler() -> None:
    """bitsandbytes decorates functions with torch.compile, which loads a compiler for seconds; none is used here."""
    import torch

    torch.compile = lambda model=None, **options: model if model is not None else lambda function: function


def rehearse(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The result for {recipe, config}, as engine.rehearsal.Rehearsal has it. Raises InputError."""
    began = time.monotonic()
    progress("loading libraries", 0.0)
    from workbench.engine.recipe import Recipe

    _do_without_compiler()
    from workbench.worker.rehearsal.rehearse import rehearse_recipe

    recipe = Recipe.model_validate_json(orjson.dumps(request["recipe"]))
    return {**rehearse_recipe(recipe, request["config"], progress), "seconds": round(time.monotonic() - began, 2)}
