"""Follows every storage that torch makes and frees, as an allocator would: bytes alive, by component and by segment."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

BLOCK = 512
"""Bytes to which torch rounds an allocation (c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize)."""

COMPONENTS = ("weights", "gradients", "optimizer", "activations", "logits", "workspace")
Bytes = tuple[int, ...]
"""Bytes of each of COMPONENTS."""

aten = torch.ops.aten


@dataclass(slots=True)
class Segment:
    """A stretch of a training step. `name` says what runs; `stack` and `layer` which block, when it is one.

    `start`, `peak` and `end` are the bytes alive then, by component.
    """

    name: str
    start: Bytes
    peak: Bytes
    end: Bytes
    stack: int | None = None
    layer: int | None = None


class StorageTracker(TorchDispatchMode):
    """Counts the storages of all tensors that operators return while it is active.

    New storages go to `component`, those that operators in `scratch` return to the workspace; `workspaces` says how
    many bytes an operator needs inside. On fake tensors (`fake`), values that a program reads are made up (true, or
    1), and shapes that depend on values take their largest size: every position of a mask counts, but where `selected`
    says how many do, by the mask's shape.
    """

    def __init__(self, fake: bool, workspaces: dict[Any, Callable[..., int]] | None = None,
                 scratch: frozenset[Any] = frozenset(),
                 selected: Mapping[tuple[int, ...], int] | None = None) -> None:
        super().__init__()
        self.component = "activations"
        self.segments: list[Segment] = []
        self.live = dict.fromkeys(COMPONENTS, 0)
        self._total = self._peak_total = 0
        self._peak: Bytes = (0,) * len(COMPONENTS)
        self._owner: dict[int, tuple[int, str]] = {}
        self._fake = fake
        self._workspaces = workspaces or {}
        self._scratch = scratch
        self._selected = selected or {}

    def begin(self, name: str, component: str = "activations", stack: int | None = None,
              layer: int | None = None) -> None:
        """End the present segment and begin another."""
        self.finish()
        now = self._now()
        self.component = component
        self._peak_total, self._peak = self._total, now
        self.segments.append(Segment(name, now, now, now, stack, layer))

    def finish(self) -> None:
        """End the present segment."""
        if self.segments:
            self.segments[-1].peak, self.segments[-1].end = self._peak, self._now()

    def add(self, tensors: Iterable[torch.Tensor], component: str) -> None:
        """Count these tensors' storages under a component, those already counted too."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._owner:
                size, before = self._owner[key]
                self.live[before] -= size
                self.live[component] += size
                self._owner[key] = (size, component)
            else:
                self._follow(storage, key, component)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = NotImplemented
        if self._fake and (made_up := _MADE_UP.get(func)) is not None:
            result = made_up(func, args, self._selected)
        if result is NotImplemented and func is aten.add.Tensor and _joins_gradients(*args, **kwargs):
            result = aten.add_.Tensor(*args)
        if result is NotImplemented:
            result = func(*args, **kwargs)
        self._count(result, "workspace" if func in self._scratch else self.component)
        if (workspace := self._workspaces.get(func)) is not None:
            self._note_peak(workspace(*args, **kwargs))
        return result

    def _count(self, result: Any, component: str) -> None:
        if isinstance(result, torch.Tensor):
            storage = result.untyped_storage()
            key = storage._cdata
            if key not in self._owner:
                self._follow(storage, key, component)
        elif isinstance(result, (tuple, list)):
            for item in result:
                self._count(item, component)

    def _follow(self, storage: torch.UntypedStorage, key: int, component: str) -> None:
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self._owner[key] = (size, component)
        self.live[component] += size
        self._total += size
        if self._total > self._peak_total:
            self._note_peak(0)
        weakref.finalize(storage, self._freed, key).atexit = False

    def _freed(self, key: int) -> None:
        size, component = self._owner.pop(key)
        self.live[component] -= size
        self._total -= size

    def _note_peak(self, workspace: int) -> None:
        if self._total + workspace >= self._peak_total:
            self._peak_total = self._total + workspace
            self._peak = (*self._now()[:-1], self.live["workspace"] + workspace)

    def _now(self) -> Bytes:
        return tuple(self.live.values())


# References to a tensor, and to its storage, while the engine's sum of two gradients is dispatched to Python and nobody
# else holds it.
_SOLE, _SOLE_STORAGE = 4, 2


def _joins_gradients(one: Any, other: Any, **keywords: Any) -> bool:
    """Whether this sum is one that autograd makes in place where no dispatch mode watches it: of two gradients, of
    which it alone holds the first (torch/csrc/autograd/input_buffer.cpp, can_accumulate_inplace)."""
    if torch._C._current_graph_task_id() == -1 or torch.is_grad_enabled() or keywords:
        return False
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor) or one.dtype != other.dtype:
        return False
    return (one.shape == other.shape and one._use_count() == _SOLE
            and torch._C._storage_Use_Count(one.untyped_storage()._cdata) == _SOLE_STORAGE)


def _scalar(func: Any, args: Any, selected: Any) -> Any:
    dtype = args[0].dtype
    return True if dtype == torch.bool else 1.0 if dtype.is_floating_point else 1


def _index(func: Any, args: Any, selected: Mapping[tuple[int, ...], int]) -> Any:
    """x[mask]: every position is taken where nothing else is known."""
    tensor, indices = args
    if len(indices) != 1 or indices[0] is None or indices[0].dtype not in (torch.bool, torch.uint8):
        return NotImplemented
    mask = indices[0]
    return tensor.new_empty((selected.get(tuple(mask.shape), mask.numel()), *tensor.shape[mask.dim():]))


def _index_put(func: Any, args: Any, selected: Any) -> Any:
    """Writing at a mask: the shape stays, whatever is written."""
    tensor, indices = args[:2]
    if not any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices):
        return NotImplemented
    return tensor if func in (aten.index_put_.default, aten._index_put_impl_.default) else torch.empty_like(tensor)


def _masked_select(func: Any, args: Any, selected: Any) -> Any:
    return args[0].new_empty(torch.broadcast_shapes(args[0].shape, args[1].shape).numel())


def _nonzero(func: Any, args: Any, selected: Any) -> Any:
    return args[0].new_empty((args[0].numel(), args[0].dim()), dtype=torch.int64)


_MADE_UP: dict[Any, Callable[[Any, Any, Any], Any]] = {
    aten._local_scalar_dense.default: _scalar,
    aten.index.Tensor: _index,
    aten.index_put.default: _index_put,
    aten.index_put_.default: _index_put,
    aten._index_put_impl_.default: _index_put,
    aten.masked_select.default: _masked_select,
    aten.nonzero.default: _nonzero,
}
