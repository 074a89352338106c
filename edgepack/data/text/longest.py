"""Finds the longest of many pieces that a text begins with, in a time that does not grow with their number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable


class Pieces:
    """Pieces of text, to be looked up by how a text begins.

    They are sorted, and each knows the longest other one that it begins with itself. Of those not after a text in this
    order the last one begins with every piece that the text begins with, so that only those need to be looked at: at
    most as many as a piece has characters.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self._sorted = sorted({piece for piece in pieces if piece})
        self._shorter: list[int] = []
        self.longest = max(map(len, self._sorted), default=0)
        above: list[int] = []
        for place, piece in enumerate(self._sorted):
            while above and not piece.startswith(self._sorted[above[-1]]):
                above.pop()
            self._shorter.append(above[-1] if above else -1)
            above.append(place)

    def first_of(self, text: str) -> str | None:
        """Return the longest piece that ``text`` begins with; None where it begins with none."""
        place = bisect_right(self._sorted, text) - 1
        while place >= 0 and not text.startswith(self._sorted[place]):
            place = self._shorter[place]
        return self._sorted[place] if place >= 0 else None
