"""Runs a block's steps forward and back, and follows which bytes are alive: the block's own little autograd tape."""

from collections.abc import Sequence

from workbench.engine.catalog.operations import Operation, Value
from workbench.engine.memory.steps import Step


class Tape:
    """Bytes per token of one run. `saved` is what stays for the backward; `levels` what was alive at each of its
    points, with how many operations the backward had done by then; `in_attention` the most in attention's forward.

    The points are the same whatever the sizes, so that those of two runs can be told by their place.

    The block's input is counted by whoever keeps it (`counts_input`): a checkpoint does, so a block must not. `waiting`
    bytes of gradients are alive while it runs forward, and its last `left_out` operations do not run.
    A gradient that joins another is added in place, as autograd does on plain tensors.
    """

    def __init__(self, values: Sequence[Value], operations: Sequence[Operation], steps: Sequence[Step],
                 numbers: dict[int, float], counts_input: bool, waiting: float = 0,
                 left_out: int = 0) -> None:  # fmt: skip
        self.operations, self.steps = operations, steps
        self.roots = [_root(values, v) for v in range(len(values))]
        self.sizes = {v: numbers[v] * values[v].width for v in range(len(values)) if self.roots[v] == v}
        if not counts_input:
            self.sizes[0] = 0
        self.waiting, self.runs = waiting, len(operations) - left_out
        self.live = self.sizes[0]
        self.levels = [(self.live + waiting, 0)]
        self.in_attention = 0.0
        self.holders: dict[int, int] = {}  # steps that keep a value's storage
        self._forward()
        self.saved = self.live - self._output_bytes()
        self._backward()

    @property
    def peak(self) -> float:
        """The most bytes per token that were ever alive."""
        return max(alive for alive, _ in self.levels)

    def _output_bytes(self) -> float:
        """The block's output belongs to the next block, and its input to the block before, unless kept here."""
        output = self.roots[self.operations[-1].outputs[0]]
        return 0 if output in self.holders else self.sizes[output]

    def _forward(self) -> None:
        last_use = {self.roots[v]: i for i, op in enumerate(self.operations) for v in op.inputs}
        for i, (op, step) in enumerate(zip(self.operations, self.steps, strict=True)):
            new = sum(self.sizes[v] for v in op.outputs if self.roots[v] == v)
            self.live += step.copies + new
            if i < self.runs:
                self.levels.append((self.live + step.forward + self.waiting, 0))
            if op.kind == "attention":
                self.in_attention = self.live + step.forward
            for v in {self.roots[v] for v in step.keeps}:
                self.holders[v] = self.holders.get(v, 0) + 1
            for v in {self.roots[v] for v in op.inputs}:
                if last_use[v] == i and v not in self.holders:
                    self.live -= self.sizes[v]

    def _backward(self) -> None:
        output = self.roots[self.operations[-1].outputs[0]]
        if output not in self.holders:
            self.live -= self.sizes[output]
        gradients = _Gradients()
        gradients.give(self.operations[-1].outputs[0], self.sizes[output])
        for done, (op, step) in enumerate(zip(reversed(self.operations), reversed(self.steps), strict=True)):
            alive = self.live + gradients.bytes
            self.levels.append((alive + step.backward, done))
            if op.kind == "linear":
                self.levels.append((alive - step.copies + step.uncopied, done))
                self.levels.append((alive - step.copies - gradients.own(op) + step.late, done))
            gradients.walk(op, step)
            self.levels.append((self.live + gradients.bytes, done + 1))
            self.live -= step.copies
            for v in {self.roots[v] for v in step.keeps}:
                self.holders[v] -= 1
                if not self.holders[v]:
                    del self.holders[v]
                    self.live -= self.sizes[v]


class _Gradients:
    """Gradients alive: several values may share one storage, which goes with the last of them."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}
        self.sizes: dict[int, float] = {}
        self.users: dict[int, int] = {}
        self.bytes = 0.0

    def walk(self, op: Operation, step: Step) -> None:
        """Trade the gradients of an operation's outputs for those of its inputs."""
        own = next((self.of[v] for v in op.outputs if v in self.of), None)
        for value, size in step.gradients:
            if size is None and own is not None and value not in self.of:
                self.of[value] = own
                self.users[own] += 1
            elif value not in self.of:
                self.give(value, size or 0)
            elif self.users[self.of[value]] > 1:  # the sum cannot be made in place: others still read it
                shared = self.of[value]
                self._drop(value)
                self.give(value, self.sizes.get(shared, size or 0))
        for value in op.outputs:
            if value in self.of:
                self._drop(value)

    def own(self, op: Operation) -> float:
        """Bytes of the output's gradient, if nobody else reads it."""
        keys = {self.of[v] for v in op.outputs if v in self.of}
        return sum(self.sizes[key] for key in keys if self.users[key] == 1)

    def give(self, value: int, size: float) -> None:
        """A gradient of its own."""
        key = len(self.users)
        self.of[value], self.sizes[key], self.users[key] = key, size, 1
        self.bytes += size

    def _drop(self, value: int) -> None:
        key = self.of.pop(value)
        self.users[key] -= 1
        if not self.users[key]:
            self.bytes -= self.sizes.pop(key)


def _root(values: Sequence[Value], value: int) -> int:
    """The value that owns the storage."""
    while (of := values[value].of) is not None:
        value = of
    return value
