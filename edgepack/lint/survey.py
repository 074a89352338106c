"""Reads samples once for the checks of a calibration set: digests, picture signatures and channel statistics."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgepack.data.samples import has_pictures, picture_digests, read_samples, sample_names
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.specs.types import Array, Feeds

MOST_DECODED = 2000  # pictures of one set that are decoded; of all others the files alone are compared
_SIGNATURE_SIDE = 16
_SMALLEST_PICTURE = 32  # sides below this have too little detail to tell near duplicates from alike pictures


@dataclass(frozen=True)
class Channels:
    """Extremes of an input's channels over all samples, float64 [channels], and whether all are equal everywhere."""

    name: str
    minima: Array
    maxima: Array
    all_equal: bool
    rank: int


@dataclass(frozen=True)
class Survey:
    """What one reading of the samples showed.

    ``digests``, one a sample, are of a picture's file, else of the values that the model sees. ``signatures`` [n, 256]
    describe the pictures at the positions ``described`` [n], see ``signature``; None where it is not one. ``blank``
    are positions of samples whose float inputs are one single value. ``read`` are the positions of the samples whose
    values were read, ``peaks`` by input the largest magnitude in each of them, float64 [read].
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    signatures: Array | None
    described: tuple[int, ...]
    channels: tuple[Channels, ...]
    blank: tuple[int, ...]
    read: tuple[int, ...] = ()
    peaks: Mapping[str, Array] = field(default_factory=dict)


def survey_samples(model: OnnxModel, samples: SampleSet, tell: Callable[[int], None]) -> Survey:
    """Read the samples once, one at a time; ``tell`` is called with the number read.

    At most ``MOST_DECODED`` pictures, spread evenly, are decoded. Raises ``DataError`` as ``read_samples`` does.
    """
    names = sample_names(samples)
    described = spread(len(names), MOST_DECODED)
    files = has_pictures(samples)
    read = described if files else tuple(range(len(names)))
    chosen = frozenset(described)
    digests = picture_digests(samples) if files else []
    signatures: list[Array] = []
    blank: list[int] = []
    accumulators = [_ChannelAccumulator(spec) for spec in model.inputs if spec.dtype.startswith("float")]
    picture = picture_input(model)
    for position, feed in zip(read, read_some(samples, model.inputs, read), strict=True):
        if not files:
            digests.append(_digest(feed))
        for accumulator in accumulators:
            accumulator.add(feed[accumulator.spec.name])
        if accumulators and all(feed[a.spec.name].min() == feed[a.spec.name].max() for a in accumulators):
            blank.append(position)
        if picture is not None and position in chosen:
            found = signature(to_pixels(feed[picture.name], picture))
            signatures += [found] if found is not None else []
        tell(position + 1)
    whole = bool(signatures) and len(signatures) == len(described)
    return Survey(
        names=names,
        digests=tuple(digests),
        signatures=np.stack(signatures) if whole else None,
        described=described if whole else (),
        channels=tuple(accumulator.result() for accumulator in accumulators),
        blank=tuple(blank),
        read=tuple(read),
        peaks={accumulator.spec.name: np.asarray(accumulator.peaks, np.float64) for accumulator in accumulators},
    )


def spread(total: int, most: int) -> tuple[int, ...]:
    """Return at most ``most`` of the positions 0 to ``total - 1``, ascending and evenly spread."""
    return tuple(range(total)) if total <= most else tuple(i * total // most for i in range(most))


def read_some(samples: SampleSet, inputs: tuple[TensorSpec, ...], positions: Sequence[int]) -> Iterator[Feeds]:
    """Yield the feeds of the samples at ``positions``, which ascend; see ``read_samples``."""
    if len(positions) == len(samples.indices):
        return read_samples(samples, inputs)
    part = replace(samples, indices=tuple(samples.indices[p] for p in positions))
    # What was chosen is not compared with a digest here, which only the whole set has: islice stops before that.
    return itertools.islice(read_samples(part, inputs), len(positions))


def channel_axis(spec: TensorSpec) -> int | None:
    """Return the axis of channels or features of a float input [N, features] or of pictures; None for other inputs."""
    if not spec.dtype.startswith("float"):
        return None
    if len(spec.shape) == 2:
        return 1
    if len(spec.shape) == 4:
        return 3 if spec.shape[3] in (1, 3) and spec.shape[1] not in (1, 3) else 1
    return None


def picture_input(model: OnnxModel) -> TensorSpec | None:
    """Return the model's input if it takes colour pictures as floats: a single one, of rank 4, with 3 channels."""
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        return None
    axis = channel_axis(model.inputs[0])
    return model.inputs[0] if axis is not None and model.inputs[0].shape[axis] == 3 else None


def to_pixels(array: Array, spec: TensorSpec) -> Array:
    """Return the first picture of a batch as [height, width, channels]."""
    result: Array = array[0] if channel_axis(spec) == 3 else array[0].transpose(1, 2, 0)
    return result


def signature(pixels: Array) -> Array | None:
    """Return a description of a picture that survives scaling, re-encoding and changes of brightness and contrast.

    The grey picture averaged over 16 x 16 fields, its mean taken off, divided by its norm: float32 [256]; zeros for a
    blank picture, None for one too small. Two pictures are compared by the scalar product.
    """
    grey = pixels.mean(axis=2, dtype=np.float64)
    if min(grey.shape) < _SMALLEST_PICTURE:
        return None
    rows, columns = (np.linspace(0, side, _SIGNATURE_SIDE + 1).astype(int) for side in grey.shape)
    sums = np.add.reduceat(np.add.reduceat(grey, rows[:-1], axis=0), columns[:-1], axis=1)
    fields = sums / np.outer(np.diff(rows), np.diff(columns))
    fields -= fields.mean()
    norm = float(np.linalg.norm(fields))
    usable = norm > 1e-6 * max(float(np.abs(grey).max()), 1e-30)
    result: Array = (fields / norm if usable else fields * 0).reshape(-1).astype(np.float32)
    return result


def class_labels(labels: Array | None) -> Array | None:
    """Return labels that are class numbers [samples]; None for any others."""
    return labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu" else None


def _digest(feed: Feeds) -> str:
    digest = hashlib.sha256()
    for name in sorted(feed):
        digest.update(f"{name}:{feed[name].shape};".encode())
        digest.update(np.ascontiguousarray(feed[name]).tobytes())
    return digest.hexdigest()


class _ChannelAccumulator:
    """Extremes of one input's channels, sample by sample; an input without a known axis of channels is one channel."""

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self._axis = channel_axis(spec)
        self._minima: Array | None = None
        self._maxima: Array | None = None
        self._all_equal = True
        self.peaks: list[float] = []

    def add(self, array: Array) -> None:
        rows = array[None] if self._axis is None else np.moveaxis(array, self._axis, 0)
        rows = rows.reshape(rows.shape[0], -1)
        minima, maxima = rows.min(axis=1), rows.max(axis=1)
        self.peaks.append(float(max(-minima.min(), maxima.max(), 0.0)))
        if self._minima is not None and self._maxima is not None:
            if len(minima) != len(self._minima):  # as many features as the sample is long: one channel
                minima, maxima = minima.min(keepdims=True), maxima.max(keepdims=True)
                self._minima, self._maxima = self._minima.min(keepdims=True), self._maxima.max(keepdims=True)
                self._axis = None
            minima, maxima = np.minimum(self._minima, minima), np.maximum(self._maxima, maxima)
        self._minima, self._maxima = minima, maxima
        if self._all_equal:
            self._all_equal = _alike(rows)

    def result(self) -> Channels:
        empty = np.zeros(0)
        minima = empty if self._minima is None else self._minima.astype(np.float64)
        maxima = empty if self._maxima is None else self._maxima.astype(np.float64)
        return Channels(self.spec.name, minima, maxima, self._all_equal and len(minima) > 1, len(self.spec.shape))


def _alike(rows: Array) -> bool:
    """Return whether the channels [channels, values] differ by their normalisation only."""
    minima, maxima = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    scaled = (rows - minima) / np.where(maxima > minima, maxima - minima, 1.0)
    return bool(np.abs(scaled - scaled[:1]).max() < 1e-3)
