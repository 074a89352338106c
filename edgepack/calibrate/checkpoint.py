"""Keeps what was counted so far in a file, so that an interrupted calibration goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack.base.files import atomic_write
from edgepack.calibrate.histogram import Counts
from edgepack.calibrate.statistics import Statistics
from edgepack.specs.types import Array

CHECKPOINT = ".checkpoint-"  # what the names of these files begin with


@dataclass(frozen=True)
class Checkpoint:
    """A file for the statistics of ``tensors``; ``key`` is the digest of all that they depend on."""

    path: Path
    key: str
    tensors: tuple[str, ...]

    def save(self, done: int, statistics: dict[str, Statistics]) -> None:
        """Write the statistics of the first ``done`` samples, whole or not at all. Raises ``StorageError``."""
        owners, pages, counts = [], [], []
        for place, name in enumerate(self.tensors):
            known = statistics[name].counts
            for page, counted in sorted(known.pages.items()) if known is not None else ():
                owners.append(place)
                pages.append(page)
                counts.append(counted)
        with atomic_write(self.path) as file:
            np.savez(
                file,
                key=np.frombuffer(self.key.encode(), dtype=np.uint8),
                done=np.array(done),
                minima=np.array([statistics[name].minimum for name in self.tensors]),
                maxima=np.array([statistics[name].maximum for name in self.tensors]),
                owners=np.array(owners, dtype=np.int64),
                pages=np.array(pages, dtype=np.int64),
                counts=np.array(counts, dtype=np.int64),
            )

    def load(self, histogram: bool) -> tuple[int, dict[str, Statistics]]:
        """Return how many samples were counted, and their statistics; 0 and empty ones without a usable file."""
        fresh = {name: Statistics(counts=Counts() if histogram else None) for name in self.tensors}
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                return self._restore(dict(saved), fresh)
        except Exception:  # numpy and zipfile raise a dozen kinds for a damaged file; without it, all is counted again
            return 0, {name: Statistics(counts=Counts() if histogram else None) for name in self.tensors}

    def _restore(self, saved: dict[str, Array], fresh: dict[str, Statistics]) -> tuple[int, dict[str, Statistics]]:
        if saved["key"].tobytes() != self.key.encode():
            raise ValueError("of another calibration")
        for place, name in enumerate(self.tensors):
            fresh[name].minimum = float(saved["minima"][place])
            fresh[name].maximum = float(saved["maxima"][place])
        for owner, page, counted in zip(saved["owners"], saved["pages"], saved["counts"], strict=True):
            known = fresh[self.tensors[int(owner)]].counts
            if known is not None:
                known.pages[int(page)] = counted.copy()
        return int(saved["done"]), fresh

    def remove(self) -> None:
        """Remove the file; a finished calibration needs none."""
        self.path.unlink(missing_ok=True)
