"""Judges whether a segmenter's preprocessing fits, by how well its masks overlap with the labelled ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgepack.data.mask_folder import SEGMENTATION
from edgepack.errors import DataError, ToolchainError
from edgepack.lint import Found, Inspected
from edgepack.lint.answered import Pictures, does_not_fit, labelled_pictures
from edgepack.lint.encodings import Encoding, alternatives
from edgepack.specs.answer import Mask
from edgepack.specs.data import Finding
from edgepack.specs.task import Task
from edgepack.specs.types import Array, Progress
from edgepack.verify.metrics.masks import count_pixels, mean_overlap
from edgepack.verify.resampling import paired_interval

# Another encoding is chosen on the first pictures and compared on the others: chosen and compared on the same ones, the
# best of many would seem better by chance.
_CHOSEN_ON, _COMPARED_ON = 4, 12
_FEWEST = 6  # to compare on
_PROMISING = 0.02
_GAIN = 0.05
_FAR = 0.1  # what a figure must lack to say nothing of the model


@dataclass(frozen=True)
class _Chosen:
    """The other encoding that did best, and how often the model ran to find it."""

    encoding: Encoding | None
    model_runs: int


def check(inspected: Inspected) -> Found:
    """Return how well a segmenter's masks overlap with those of labelled pictures, and a warning when another encoding
    of the pixels is surely better.

    The mean IoU of classes is compared, on at most 12 pictures, with the encoding that does best on 4 others. Outputs
    that the task cannot read are left to the evaluation, which names them.
    """
    most = _CHOSEN_ON + _COMPARED_ON
    pictures = labelled_pictures(inspected, (SEGMENTATION,), _usable, _FEWEST + 2, most)
    if pictures is None:
        return Found()
    first = min(_CHOSEN_ON, len(pictures.wanted) - _FEWEST)
    try:
        chosen = _choose(pictures, first, inspected.progress)
        finding, compared = _compare(pictures, first, chosen.encoding)
    except (DataError, ToolchainError):
        return Found()
    return Found((finding,), chosen.model_runs + compared)


def _usable(label: Any, _task: Task) -> bool:
    return isinstance(label, Mask) and bool((label.labels != Mask.IGNORED).any())


def _choose(pictures: Pictures, end: int, progress: Progress) -> _Chosen:
    """Return the encoding that is best on the pictures before ``end``; None where the present one is, or nearly."""
    others = alternatives(pictures.present)
    scores: list[float] = []
    for number, encoding in enumerate((pictures.present, *others)):
        counts = _counts(pictures.wanted[:end], pictures.answers(encoding, 0, end))
        scores.append(mean_overlap(counts, np.ones(end)))
        progress("lint: masks", number, len(others))
    best = int(np.argmax(scores))
    return _Chosen(others[best - 1] if scores[best] - scores[0] > _PROMISING else None, end * len(scores))


def _compare(pictures: Pictures, first: int, other: Encoding | None) -> tuple[Finding, int]:
    """Return what is found on the pictures from ``first`` on, and how often the model ran for it."""
    wanted = pictures.wanted[first:]
    count, what = len(wanted), f"{pictures.judged.title}, n={len(wanted)}"
    now = partial(mean_overlap, _counts(wanted, pictures.answers(pictures.present, first)))
    before = now(np.ones(count))
    words = f"mean IoU of classes is {before:.3f} with {pictures.present.title}"
    if other is None:
        return Finding("preprocessing", "note", f"{words} ({what})"), count
    better = partial(mean_overlap, _counts(wanted, pictures.answers(other, first)))
    after, gain = better(np.ones(count)), paired_interval(better, now, count, 0)
    if after - before < _GAIN or gain[0] <= 0:
        return Finding("preprocessing", "note", f"{words}, {after:.3f} with {other.title} ({what})"), 2 * count
    return does_not_fit(words, other, after, what, gain, proven=after - before >= _FAR), 2 * count


def _counts(wanted: Sequence[Any], found: Sequence[Any]) -> Array:
    """Return for each picture and class the right pixels, those labelled and those answered, [n, 3, classes]."""
    pairs = [(truth, mask) for truth, mask in zip(wanted, found, strict=True)]
    classes = max(_highest(mask) for pair in pairs for mask in pair) + 1
    return np.array([count_pixels(truth, mask, classes) for truth, mask in pairs], np.float64)


def _highest(mask: Mask) -> int:
    return int(np.max(mask.labels[mask.labels != Mask.IGNORED], initial=0))
