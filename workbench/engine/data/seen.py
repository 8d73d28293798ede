"""Which examples have been seen: eight bytes of hash and eight of place each, however long they are."""

from array import array
from collections.abc import Iterable

MOST_KEPT = 10_000_000
"""Hashes kept (160 MB with their places); beyond them only a half is kept, then a quarter, and counts are scaled up."""
_FEW = 200_000
"""Hashes that are compared without numpy, whose import takes as much memory as the screen does."""
_LINE_BITS = 40


class Seen:
    """64-bit hashes of examples in the order they came, with their places (source number, line).

    Of 10 million different examples, two share a hash with a probability of about 3e-6 (n²/2 / 2⁶⁴).
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._mask = 0
        self._hashes, self._places = array("Q"), array("Q")

    def add(self, hashed: int, source: int, line: int) -> None:
        """One more example."""
        if hashed & self._mask:
            return
        self._hashes.append(hashed)
        self._places.append(source << _LINE_BITS | line)
        if len(self._hashes) > self._most:
            self._thin(self._mask << 1 | 1)

    @property
    def scale(self) -> int:
        """What a count of kept hashes is multiplied by; more than 1: it is an estimate."""
        return self._mask + 1

    def repeated(self, most_places: int) -> tuple[int, list[tuple[int, int]]]:
        """(how many examples stand for a second or later time, the first of them as (source, line))."""
        if len(self._hashes) <= _FEW:
            first = {hashed: index for index, hashed in reversed(tuple(enumerate(self._hashes)))}
            again = [index for index, hashed in enumerate(self._hashes) if first[hashed] != index]
        else:
            import numpy as np

            hashes = np.frombuffer(self._hashes, np.uint64)
            order = np.argsort(hashes, kind="stable")
            arranged = hashes[order]
            again = np.sort(order[1:][arranged[1:] == arranged[:-1]]).tolist()
        return len(again) * self.scale, self._at(again[:most_places])

    def shared(self, other: "Seen", most_places: int) -> tuple[int, list[tuple[int, int]]]:
        """(how many of these examples the other has too, the first of them as (source, line))."""
        for one, two in ((self, other), (other, self)):
            if one._mask < two._mask:
                one._thin(two._mask)
        if len(self._hashes) <= _FEW:
            wanted = set(self._hashes)
            known = wanted.intersection(other._hashes)
            found = [index for index, hashed in enumerate(self._hashes) if hashed in known]
        else:
            import numpy as np

            found = np.isin(np.frombuffer(self._hashes, np.uint64),
                            np.frombuffer(other._hashes, np.uint64)).nonzero()[0].tolist()
        return len(found) * self.scale, self._at(found[:most_places])

    def _at(self, indices: Iterable[int]) -> list[tuple[int, int]]:
        return [(self._places[index] >> _LINE_BITS, self._places[index] & (1 << _LINE_BITS) - 1) for index in indices]

    def _thin(self, mask: int) -> None:
        """Keep the hashes that end in zeros: all copies of an example stay, or none."""
        import numpy as np

        hashes = np.frombuffer(self._hashes, np.uint64)
        kept = hashes & np.uint64(mask) == 0
        places = np.frombuffer(self._places, np.uint64)[kept].tobytes()
        self._hashes, self._places, self._mask = array("Q", hashes[kept].tobytes()), array("Q", places), mask
