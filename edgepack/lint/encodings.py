"""The usual ways of turning pixels into a model's input, and which of them an array was made by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgepack.specs.data import Preprocessing
from edgepack.specs.types import Array

_NEAR = 0.15  # of the span


@dataclass(frozen=True)
class Encoding:
    """``x = (pixel - mean) / std``, pixels 0..255, a number per channel in RGB order; ``bgr`` swaps the channels."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False

    @property
    def title(self) -> str:
        """How it is called in messages."""
        return f"{'BGR' if self.bgr else 'RGB'}, {self.name}"

    def encode(self, pixels: Array) -> Array:
        """Return pixels [height, width, 3] in RGB as the model's values, in the encoding's order of channels."""
        values: Array = (pixels - np.asarray(self.mean)) / np.asarray(self.std)
        result: Array = (values[:, :, ::-1] if self.bgr else values).astype(np.float32)
        return result

    def decode(self, values: Array) -> Array:
        """Return the pixels [height, width, 3] in RGB that were encoded."""
        ordered = values[:, :, ::-1] if self.bgr else values
        pixels: Array = ordered * np.asarray(self.std) + np.asarray(self.mean)
        return pixels

    def near(self, other: Encoding) -> bool:
        """Return whether a model can hardly tell the two apart: their values differ by little of the span.

        So do ImageNet's and CIFAR-10's mean and std, or -1 to 1 and (x - 127) / 128.
        """
        if self.bgr != other.bgr:
            return False
        ends = np.array([0.0, 255.0])[:, None]
        one, two = ((ends - np.asarray(e.mean)) / np.asarray(e.std) for e in (self, other))
        span = np.minimum(np.abs(np.diff(one, axis=0)), np.abs(np.diff(two, axis=0)))
        return bool((np.abs(one - two) < _NEAR * span).all())


def _of_unit(mean: tuple[float, float, float], std: tuple[float, float, float]) -> tuple[tuple[float, ...], ...]:
    return tuple(255 * m for m in mean), tuple(255 * s for s in std)


_IMAGENET = _of_unit((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR = _of_unit((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))

# Sources: torchvision's presets; TF-Slim's inception preprocessing; TensorFlow's EfficientNet-Lite; the mean values of
# Caffe's ImageNet models, as in Keras' imagenet_utils mode "caffe"; the pixel statistics of CIFAR-10.
PLAIN = (
    Encoding("0 to 255", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    Encoding("/ 255", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    Encoding("ImageNet mean and std", *_IMAGENET),  # type: ignore[arg-type]
    Encoding("CIFAR-10 mean and std", *_CIFAR),  # type: ignore[arg-type]
    Encoding("-1 to 1", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    Encoding("(x - 127) / 128", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    Encoding("Caffe means", (123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
)
USUAL = tuple(Encoding(e.name, e.mean, e.std, bgr) for e in PLAIN for bgr in (False, True))


def alternatives(present: Encoding, *, by_place: bool = False) -> tuple[Encoding, ...]:
    """Return the usual encodings that are worth trying beside ``present``: none that is near it or near one before.

    With ``by_place`` the pixels are known from arrays alone, whose channels may have been swapped before they were
    normalised: then ImageNet's numbers in BGR belong to the places of the channels, not to the colours.
    """
    found = [present]
    for usual in USUAL:
        reverse = by_place and usual.bgr and len(set(usual.std)) > 1
        encoding = replace(usual, mean=usual.mean[::-1], std=usual.std[::-1]) if reverse else usual
        if not any(encoding.near(other) for other in found):
            found.append(encoding)
    return tuple(found[1:])


def encoding_of(preprocessing: Preprocessing) -> Encoding:
    """Return the encoding that a recipe for colour pictures makes."""
    scale = preprocessing.scale
    mean = tuple(m / scale for m in preprocessing.mean)
    std = tuple(s / scale for s in preprocessing.std)
    bgr = preprocessing.color == "BGR"
    if bgr:  # a recipe's numbers are in the order of its own channels
        mean, std = mean[::-1], std[::-1]
    for usual in USUAL:
        if usual.bgr == bgr and np.allclose(usual.mean, mean, atol=0.01) and np.allclose(usual.std, std, rtol=1e-3):
            return usual
    return Encoding("as in the recipe", mean, std, bgr)  # type: ignore[arg-type]


def guess_encoding(minima: Array, maxima: Array) -> Encoding | None:
    """Return the encoding whose pixels lie within 0..255 and span most of it; None when none fits.

    ``minima`` and ``maxima`` are of the three channels, as they stand, over many pictures, which nearly reach both ends
    together. The order of channels shows only where mean and std differ between them; else RGB is assumed.
    """
    best, best_span = None, 128.0
    for encoding in USUAL:
        mean, std = (np.asarray(v)[::-1] if encoding.bgr else np.asarray(v) for v in (encoding.mean, encoding.std))
        low, high = minima * std + mean, maxima * std + mean
        span = float((high - low).mean())
        if low.min() >= -0.5 and high.max() <= 255.5 and span > best_span:
            best, best_span = encoding, span
    return best
