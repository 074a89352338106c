"""Samples of the small model, of which golden vectors are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from small_bundles import INPUTS

from edgepack.data.samples import find_samples
from edgepack.specs.model import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path


def samples_of(tmp_path: Path, count: int, inputs: tuple[TensorSpec, ...] = INPUTS, **arrays: np.ndarray):
    random_values = np.random.default_rng(1).standard_normal((count, 3, 8, 8), np.float32)
    np.savez(tmp_path / "data.npz", **(arrays or {"image": random_values}))
    return find_samples(str(tmp_path / "data.npz"), inputs, None)
