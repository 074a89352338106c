"""The data of the examples: grey pictures of 16 by 16 with stripes in four directions. numpy only."""

import numpy as np

CLASSES = ("falling", "horizontal", "rising", "vertical")  # sorted, as edgepack numbers the folders of pictures


def make_pictures(count, seed):
    """Return uint8 pictures [count, 16, 16] and the number of each one's class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(CLASSES), count)
    rows, columns = np.mgrid[:16, :16]
    directions = np.stack([rows - columns, rows, rows + columns, columns])
    width = random.uniform(4, 8, (count, 1, 1))
    shift = random.uniform(0, 2 * np.pi, (count, 1, 1))
    waves = np.sin(2 * np.pi * directions[labels] / width + shift)
    pictures = 128 + 70 * waves + random.normal(0, 45, waves.shape)
    return pictures.clip(0, 255).astype(np.uint8), labels


def to_input(pictures):
    """Return what the models take: float32 [count, 1, 16, 16] from -1 to 1, as stripes.toml says."""
    return (pictures[:, None].astype(np.float32) / 255 - 0.5) / 0.5


def samples():
    """Yield 400 samples one by one: edgepack build --data stripes.py:samples."""
    pictures, labels = make_pictures(400, seed=1)
    for picture, label in zip(to_input(pictures), labels, strict=True):
        yield {"input": picture, "labels": label}
