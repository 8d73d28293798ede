"""From traces of a few blocks to the whole model.

Memory is affine in the number of blocks of each group, moment by moment. The maximum of affine functions is not, so
moments stay apart: what runs outside the blocks is extrapolated from two depths, and the blocks of the whole model are
walked one by one, each adding what a block of its group was seen to add.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from workbench.worker.rehearsal.storages import Bytes, Segment

# Walking the blocks must arrive where the affine functions do: a share of the bytes, for blocks that are not alike.
_TOLERANCE = 0.002


class UnevenError(Exception):
    """The traces do not fit together: the model's blocks are not alike, and it must be traced in full."""


@dataclass(frozen=True)
class CutTrace:
    """One trace: its segments, the group of each block traced, and the trainable parameters."""

    segments: list[Segment]
    groups: tuple[int, ...]
    trainable_parameters: int

    def count(self, group: int) -> int:
        """Blocks of a group."""
        return self.groups.count(group)


class Extrapolation:
    """Two depths of each group: `base`, and for each group that has more blocks a trace with more of that group."""

    def __init__(self, base: CutTrace, deeper: Mapping[int, CutTrace], groups: Sequence[int]) -> None:
        self._base, self._deeper, self._groups = base, deeper, tuple(groups)
        # By group: how often the difference between its two depths is to be added.
        self._times = {group: (self._groups.count(group) - base.count(group)) / (trace.count(group) - base.count(group))
                       for group, trace in deeper.items()}

    def trainable_parameters(self) -> int:
        """Of the whole model."""
        base = self._base.trainable_parameters
        return round(base + sum(times * (self._deeper[group].trainable_parameters - base)
                                for group, times in self._times.items()))

    def segments(self) -> list[Segment]:
        """The whole model's. Raises UnevenError."""
        base = _runs(self._base.segments)
        deeper = {group: _runs(trace.segments) for group, trace in self._deeper.items()}
        for runs in deeper.values():
            if [(run[0].name, run[0].stack) for run in runs] != [(run[0].name, run[0].stack) for run in base]:
                raise UnevenError
        found: list[Segment] = []
        for place, run in enumerate(base):
            others = {group: runs[place] for group, runs in deeper.items()}
            if run[0].layer is None:
                found.append(self._outside(run[0], {group: other[0] for group, other in others.items()}))
            else:
                found += self._walk(run, others)
        return found

    def _affine(self, base: Bytes, deeper: Mapping[int, Bytes]) -> Bytes:
        return tuple(round(value + sum(times * (deeper[group][place] - value) for group, times in self._times.items()))
                     for place, value in enumerate(base))

    def _outside(self, base: Segment, deeper: Mapping[int, Segment]) -> Segment:
        return Segment(base.name, *(self._affine(getattr(base, edge), {g: getattr(s, edge) for g, s in deeper.items()})
                                    for edge in ("start", "peak", "end")), base.stack)

    def _walk(self, base: list[Segment], deeper: Mapping[int, list[Segment]]) -> list[Segment]:
        now = self._affine(base[0].start, {group: run[0].start for group, run in deeper.items()})
        end = self._affine(base[-1].end, {group: run[-1].end for group, run in deeper.items()})
        forward = base[0].layer == 0
        order = range(len(self._groups)) if forward else range(len(self._groups) - 1, -1, -1)
        found = []
        for place in order:
            like = self._template(place, base, deeper)
            peak, after = _moved(now, like.start, like.peak), _moved(now, like.start, like.end)
            found.append(Segment(like.name, now, peak, after, like.stack, place))
            now = after
        if abs(sum(now) - sum(end)) > _TOLERANCE * sum(end):
            raise UnevenError
        return found

    def _template(self, place: int, base: list[Segment], deeper: Mapping[int, list[Segment]]) -> Segment:
        """The traced block that stands for the one at `place`. A group's first and last blocks stand for themselves:
        they make and free what the group shares, as masks."""
        group = self._groups[place]
        groups = self._deeper.get(group, self._base).groups
        run = {segment.layer: segment for segment in deeper.get(group, base)}
        alike = [other for other, kind in enumerate(groups) if kind == group]
        of_whole = [other for other, kind in enumerate(self._groups) if kind == group]
        if place == of_whole[-1]:
            return run[alike[-1]]
        return run[alike[min(of_whole.index(place), len(alike) // 2)]]


def _runs(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Consecutive blocks of one pass together, everything else alone."""
    found: list[list[Segment]] = []
    for (_, _, inside), group in groupby(segments, key=lambda segment: (segment.name, segment.stack,
                                                                        segment.layer is not None)):
        together = list(group)
        found += [together] if inside else [[segment] for segment in together]
    return found


def _moved(now: Bytes, start: Bytes, there: Bytes) -> Bytes:
    return tuple(a + c - b for a, b, c in zip(now, start, there, strict=True))
