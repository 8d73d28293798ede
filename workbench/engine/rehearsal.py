"""The rehearsal's client: runs the recipe's trainer on fake tensors in a worker process, and waits for what it saw."""

import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from workbench.engine.catalog.models import nearest_models, resolve_model
from workbench.engine.errors import InputError, RunError
from workbench.engine.processes import child_environment
from workbench.engine.recipe import Recipe
from workbench.engine.text import one_line, sanitise

REHEARSE = (sys.executable, "-m", "workbench.worker", "rehearse")
_LOOK_EVERY = 0.1  # seconds between two looks at `cancelled`


class RehearsalCancelled(RunError):  # noqa: N818 (the user asked for it: no error)
    """The rehearsal was stopped because it was asked to."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What training would take on one GPU with bfloat16, as the trainer itself allocated it. Sizes are in bytes.

    `peak_bytes` predicts `torch.cuda.max_memory_allocated`; `components` (weights, gradients, optimizer, activations,
    logits, workspace) sum to it. `static_bytes` is alive when a forward pass begins. `depths_traced` are the numbers of
    blocks that were traced and extrapolated from; a single one means the whole model. `seconds` is what it took.
    """

    peak_bytes: int
    peak_moment: str
    static_bytes: int
    depths_traced: tuple[int, ...]
    seconds: float
    parameters: int
    trainable_parameters: int
    components: dict[str, int]

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Rehearsal":
        """From the worker's answer."""
        return cls(**{**document, "depths_traced": tuple(document["depths_traced"])})


def rehearse(recipe: Recipe, base_dir: Path | None,
             on_progress: Callable[[str, float], None] = lambda words, share: None,
             cancelled: Callable[[], bool] = lambda: False) -> Rehearsal:
    """Rehearse a recipe; blocks for seconds. `on_progress` hears words and the share that is done, 0 to 1.

    Needs the model's config.json only: no weights, tokenizer or dataset. Raises InputError for a model that cannot be
    built, RehearsalCancelled when `cancelled` became true, RunError when the worker fails.
    """
    source = resolve_model(recipe.model, base_dir)
    if not source.config:
        raise InputError(f"{source.name} is neither on this disk nor in the catalogue, so its layers are not known and "
                         "it cannot be rehearsed.", nearest_models(source.name))
    request = {"recipe": recipe.model_dump(mode="json"), "config": source.config}
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(REHEARSE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                                   start_new_session=True, env=child_environment())
        try:
            return _answer(process, request, on_progress, cancelled, stderr)
        finally:
            process.kill()
            process.wait()


def _answer(process: "subprocess.Popen[bytes]", request: dict[str, Any], on_progress: Callable[[str, float], None],
            cancelled: Callable[[], bool], stderr: IO[bytes]) -> Rehearsal:
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_exchange, args=(process, request, lines), name="rehearsal", daemon=True).start()
    while True:
        if cancelled():
            raise RehearsalCancelled("The rehearsal was cancelled.")
        try:
            line = lines.get(timeout=_LOOK_EVERY)
        except queue.Empty:
            continue
        if not line:
            raise RunError(_explain_death(process.wait(), stderr))
        message = orjson.loads(line)
        kind = message.pop("type")
        if kind == "progress":
            on_progress(sanitise(message["text"]), message["share"])
        elif kind == "done":
            on_progress("done", 1.0)
            return Rehearsal.from_json(message)
        elif kind == "error":
            error = InputError if message["input"] else RunError
            raise error(sanitise(message["message"]), message["hint"])


def _exchange(process: "subprocess.Popen[bytes]", request: dict[str, Any], lines: "queue.SimpleQueue[bytes]") -> None:
    """Send the request; pass on the lines of the answer, and an empty one at its end."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(orjson.dumps(request))
        process.stdin.close()
        for line in process.stdout:
            lines.put(line)
    except OSError:  # it died, or was killed: the other end of the queue says so
        pass
    lines.put(b"")


def _explain_death(code: int, stderr: IO[bytes]) -> str:
    stderr.seek(0)
    last = stderr.read().decode(errors="replace").strip().splitlines()[-1:]
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"The rehearsal ended {how}{': ' + one_line(last[0], 160) if last else ', without a word'}."
