"""The operations of the warm worker that look at data: `inspect` and `render`.

Requests: {id, op: inspect, recipe, base_dir, everything} · {id, op: render, recipe, base_dir, examples}. Answers:
{id, type: progress, text, share} · {id, type: inspected, document} · {id, type: rendered, rows} ·
{id, type: cancelled}, and errors as all operations have them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from workbench.engine.recipe import Recipe

if TYPE_CHECKING:
    from workbench.worker.inspect import Inspector

Request = dict[str, Any]


class InspectionJobs:
    """Does them one after another; libraries are loaded with the first one."""

    def __init__(self, answer: Callable[..., None], is_cancelled: Callable[[str], bool]) -> None:
        self._answer = answer
        self._is_cancelled = is_cancelled
        self._inspector: Inspector | None = None

    def inspect(self, request: Request) -> None:
        """A dataset's document."""
        from workbench.engine.data.check import CheckCancelled

        try:
            document = self._warm(request).inspect(
                _recipe(request), _folder(request), request["everything"],
                lambda text, share: self._answer(request["id"], "progress", text=text, share=share),
                lambda: self._is_cancelled(request["id"]))
        except CheckCancelled:
            self._answer(request["id"], "cancelled")
        else:
            self._answer(request["id"], "inspected", document=document)

    def render(self, request: Request) -> None:
        """Examples as the trainer makes them."""
        rows = self._warm(request).render(_recipe(request), _folder(request), request["examples"])
        self._answer(request["id"], "rendered", rows=rows)

    def _warm(self, request: Request) -> "Inspector":
        if self._inspector is None:
            self._answer(request["id"], "progress", text="loading libraries", share=None)
            from workbench.worker.inspect import Inspector

            self._inspector = Inspector()
        return self._inspector


def _recipe(request: Request) -> Recipe:
    return Recipe.model_validate_json(orjson.dumps(request["recipe"]))


def _folder(request: Request) -> Path | None:
    return Path(request["base_dir"]) if request["base_dir"] is not None else None
