"""Pictures that a source's own code prepares: what it does with a colour, and what edgepack's recipe is compared on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_SIZES = ((300, 200), (190, 320))  # height and width: neither square nor alike, so that every way to resize is seen
_FLAT = (64, 64)


def compare(job: Any, prepare: Callable[[Any], Any]) -> None:
    """Keep what ``prepare`` makes of each picture: uint8 [height, width, 3] to the model's input without its batch."""
    for picture in pictures():
        job.picture(picture, prepare(picture))


def pictures() -> Iterator[Any]:
    """Yield pictures whose colours differ, with slopes that show where each pixel went, and fine waves over them."""
    import numpy as np

    for height, width in _SIZES:
        y, x = np.mgrid[0:height, 0:width]
        slopes = np.stack([x / width, y / height, 1 - (x / width + y / height) / 2], axis=-1)
        waves = np.sin(x * 0.7) * np.sin(y * 0.6)
        yield (30 + 170 * slopes + 25 * waves[..., None]).clip(0, 255).astype(np.uint8)


def arithmetic(prepare: Callable[[Any], Any]) -> dict[str, Any]:
    """Return what ``prepare`` does with the colours of a picture, found by giving it a black, a white and a red one.

    ``prepare`` answers with channels first. The numbers are rounded to six places, as float32 has no more of them.
    """
    import numpy as np

    def middle(*color: int) -> Any:
        made = np.asarray(prepare(np.full((*_FLAT, 3), color, np.uint8)), np.float64)
        return made[:, made.shape[1] // 2, made.shape[2] // 2]

    black, white, red = middle(0, 0, 0), middle(255, 255, 255), middle(255, 0, 0)
    span = white - black
    swapped = bool(np.argmax(np.abs(red - black)) != 0)
    return {
        "color": "BGR" if swapped else "RGB", "scale": 1 / 255,
        "mean": [round(float(v), 6) + 0.0 for v in -black / span], "std": [round(float(v), 6) for v in 1 / span],
    }  # fmt: skip
