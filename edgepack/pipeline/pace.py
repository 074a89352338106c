"""How long the rows of a build still take: by what they took in earlier builds, and by what is done."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from edgepack.base.files import write_text

_MOST_BYTES = 1 << 20


class Pace:
    """What the rows of one build took so far; ``file`` keeps it for the next one into the same folder."""

    def __init__(self, names: Sequence[str], file: Path) -> None:
        """Take the names of all rows, in their order."""
        self._left = list(names)
        self._file = file
        self._earlier = _read(file)
        self._done: dict[str, float] = {}

    def left_s(self) -> float | None:
        """Return about how many seconds the rows that are left take; None where nothing is known yet."""
        pairs = [(self._earlier[name], took) for name, took in self._done.items() if name in self._earlier]
        before = sum(earlier for earlier, _ in pairs)
        # A row that comes from the store now took its time before, and so does the next one.
        scale = sum(took for _, took in pairs) / before if before > 0 else 1.0
        known = [self._earlier[name] * scale if name in self._earlier else self._alike_s(name) for name in self._left]
        found = [value for value in known if value is not None]
        return sum(found) if len(found) == len(known) else None

    def _alike_s(self, name: str) -> float | None:
        """Return what rows of the same precision took: of an int8 row, which is corrected, fp32 says nothing."""
        took = [found for done, found in self._done.items() if done.split()[-1] == name.rsplit(maxsplit=1)[-1]]
        return sum(took) / len(took) if took else None

    def finished(self, took_s: float, *, ran: bool) -> None:
        """Say what the next row took; ``ran`` says that it was made, and not taken from the store."""
        name = self._left.pop(0)
        self._done[name] = took_s
        if ran:
            write_text(self._file, json.dumps({**_read(self._file), name: round(took_s, 3)}, indent=1, sort_keys=True))


def _read(file: Path) -> dict[str, float]:
    """Return what was kept, as far as it can be read: an estimate is nothing to fail for."""
    try:
        found = json.loads(file.read_bytes()[:_MOST_BYTES])
        return {str(name): float(took) for name, took in found.items() if math.isfinite(took) and took >= 0}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
