"""Inputs and arrays that several calibration tests share."""

from __future__ import annotations

import numpy as np

from edgepack.specs.model import TensorSpec

IMAGE_INPUT = (TensorSpec("image", "float32", ("N", 3, 8, 8)),)


def random_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)
