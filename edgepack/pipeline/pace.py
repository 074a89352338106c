"""How long the rows of a build still take: by what they took in earlier builds, and by what is done."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
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
        self._ran: set[str] = set()

    def left_s(self) -> float | None:
        """Return about how many seconds the rows that are left take; None where nothing is known yet."""
        # A row that comes from the store now took its time before, and so does the next one.
        scale = self._scale(self._done)
        alike = {name: self._alike_s(name) for name in {_kind(name) for name in self._left}}
        known = [self._earlier[name] * scale if name in self._earlier else alike[_kind(name)] for name in self._left]
        found = [value for value in known if value is not None]
        return sum(found) if len(found) == len(known) else None

    def _scale(self, names: Iterable[str]) -> float:
        """Return how much longer rows took now than in earlier builds."""
        pairs = [(self._earlier[name], self._done[name]) for name in names if name in self._earlier]
        before = sum(earlier for earlier, _ in pairs)
        return sum(took for _, took in pairs) / before if before > 0 else 1.0

    def _alike_s(self, kind: str) -> float | None:
        """Return what rows of the same precision took: of an int8 row, which is corrected, fp32 says nothing.

        One that came from the store now tells by what it took when it was made: a row that never was will not be there.
        """
        scale = self._scale(self._ran)
        took = [found for name, found in self._done.items() if _kind(name) == kind and name in self._ran]
        took += [self._earlier[name] * scale for name in self._done if _kind(name) == kind and self._is_reused(name)]
        took = took or [found * scale for name, found in self._earlier.items() if _kind(name) == kind]
        return sum(took) / len(took) if took else None

    def _is_reused(self, name: str) -> bool:
        return name in self._earlier and name not in self._ran

    def finished(self, took_s: float, *, ran: bool, name: str | None = None) -> None:
        """Say what a row took, the next one or ``name``; ``ran``: it was made, and not taken from the store."""
        name = self._left[0] if name is None else name
        self._left.remove(name)
        self._done[name] = took_s
        if ran:
            self._ran.add(name)
            write_text(self._file, json.dumps({**_read(self._file), name: round(took_s, 3)}, indent=1, sort_keys=True))

    def drop(self, names: Iterable[str]) -> None:
        """Expect nothing more of rows that will not be built."""
        gone = set(names)
        self._left = [name for name in self._left if name not in gone]


def earlier_s(names: Sequence[str], file: Path) -> dict[str, float | None]:
    """Return what rows took in earlier builds; of one that never was, what those of its precision took on average."""
    earlier = _read(file)
    kinds: dict[str, list[float]] = {}
    for name, took in earlier.items():
        kinds.setdefault(_kind(name), []).append(took)
    alike = {kind: sum(found) / len(found) for kind, found in kinds.items()}
    return {name: earlier.get(name, alike.get(_kind(name))) for name in names}


def _kind(name: str) -> str:
    return name.rsplit(maxsplit=1)[-1]


def _read(file: Path) -> dict[str, float]:
    """Return what was kept, as far as it can be read: an estimate is nothing to fail for."""
    try:
        found = json.loads(file.read_bytes()[:_MOST_BYTES])
        return {str(name): float(took) for name, took in found.items() if math.isfinite(took) and took >= 0}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
