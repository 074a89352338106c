"""Judges whether a segmenter's preprocessing fits, by how well its masks overlap with the labelled ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from edgepack.data.mask_folder import SEGMENTATION
from edgepack.errors import DataError, ToolchainError
from edgepack.lint import Found, Inspected
from edgepack.lint.answered import Pictures, Trial, compare, labelled_pictures
from edgepack.lint.encodings import Encoding, alternatives
from edgepack.specs.answer import Mask
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array, Progress
from edgepack.verify.metrics.masks import count_pixels, mean_overlap

# The likeliest other encodings are chosen on the first pictures and compared on the others: chosen and compared on the
# same ones, the best of many would seem better by chance. Few pictures hardly tell two that both suit the model.
_CHOSEN_ON, _COMPARED_ON = 4, 12
_LIKELIEST = 3
_FEWEST = 6  # to compare on
_MOST_SIDE = 256  # rows and columns of a mask that are looked at
_PROMISING = 0.02
_GAIN = 0.05
_FAR = 0.1  # what a figure must lack to say nothing of the model


def check(inspected: Inspected) -> Found:
    """Return how well a segmenter's masks overlap with those of labelled pictures, and a warning when another encoding
    of the pixels is surely better.

    The mean IoU of classes is compared, on at most 12 pictures, with the encodings that do best on 4 others. Outputs
    that the task cannot read are left to the evaluation, which names them.
    """
    most = _CHOSEN_ON + _COMPARED_ON
    pictures = labelled_pictures(inspected, (SEGMENTATION,), _usable, _FEWEST + 2, most)
    if pictures is None:
        return Found()
    pictures = _smaller(pictures)
    first = min(_CHOSEN_ON, len(pictures.wanted) - _FEWEST)
    try:
        tried = _choose(pictures, first, inspected.progress)
        trials = [_tried(pictures, encoding, first, None) for encoding in (pictures.present, *tried)]
    except (DataError, ToolchainError):
        return Found()
    runs = first * (1 + len(alternatives(pictures.present))) + (len(pictures.wanted) - first) * len(trials)
    return Found((compare(trials, "mean IoU of classes", pictures.judged.title, _GAIN, _FAR),), runs)


def _usable(label: Any, _task: Task) -> bool:
    return isinstance(label, Mask) and bool((label.labels != Mask.IGNORED).any())


def _smaller(pictures: Pictures) -> Pictures:
    """Return large pictures' masks, and where they lie in the input, as those of smaller pictures of the same things.

    An answer takes as long as the picture has pixels, and dozens are asked for.
    """
    both = [_grid(label, frame) for label, frame in zip(pictures.wanted, pictures.frames, strict=True)]
    return replace(pictures, wanted=tuple(label for label, _ in both), frames=tuple(frame for _, frame in both))


def _grid(label: Mask, frame: Frame) -> tuple[Mask, Frame]:
    sides = label.labels.shape
    few = [min(side, _MOST_SIDE) for side in sides]
    rows, columns = (((np.arange(n) + 0.5) * side / n).astype(np.intp) for n, side in zip(few, sides, strict=True))
    scales = frame.scale_y * sides[0] / few[0], frame.scale_x * sides[1] / few[1]
    small = replace(frame, height=few[0], width=few[1], scale_y=scales[0], scale_x=scales[1])
    return Mask(label.labels[rows[:, None], columns[None]], label.names), small


def _tried(pictures: Pictures, encoding: Encoding, first: int, end: int | None) -> Trial:
    counts = _counts(pictures.wanted[first:end], pictures.answers(encoding, first, end))
    return Trial(encoding, partial(mean_overlap, counts), len(counts))


def _choose(pictures: Pictures, end: int, progress: Progress) -> tuple[Encoding, ...]:
    """Return the encodings that do best on the pictures before ``end``, better than the present one."""
    now = _tried(pictures, pictures.present, 0, end).score
    others = alternatives(pictures.present)
    trials = []
    for number, encoding in enumerate(others, 1):
        trials.append(_tried(pictures, encoding, 0, end))
        progress("lint: masks", number, len(others))
    better = [trial for trial in trials if trial.score - now > _PROMISING]
    return tuple(t.encoding for t in sorted(better, key=lambda trial: trial.score, reverse=True)[:_LIKELIEST])


def _counts(wanted: Sequence[Any], found: Sequence[Any]) -> Array:
    """Return for each picture and class the right pixels, those labelled and those answered, [n, 3, classes]."""
    pairs = [(truth, mask) for truth, mask in zip(wanted, found, strict=True)]
    classes = max(_highest(mask) for pair in pairs for mask in pair) + 1
    return np.array([count_pixels(truth, mask, classes) for truth, mask in pairs], np.float64)


def _highest(mask: Mask) -> int:
    return int(np.max(mask.labels[mask.labels != Mask.IGNORED], initial=0))
