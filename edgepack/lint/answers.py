"""Judges whether preprocessing fits a network whose answers are more than a class, by how well they match labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgepack.calibrate.instrument import run_session
from edgepack.data.samples import read_any_labels, read_frames
from edgepack.errors import DataError, ToolchainError
from edgepack.lint import Found, Inspected, Surveyed
from edgepack.lint.encodings import Encoding, alternatives, encoding_of
from edgepack.lint.survey import picture_input
from edgepack.lint.trials import feed_of, open_session, pixels_of, recipe_keys
from edgepack.specs.answer import Boxes, Mask
from edgepack.specs.data import Finding
from edgepack.specs.model import TensorSpec
from edgepack.specs.signal_answers import Transcript
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import answer
from edgepack.verify.average_precision import find_matches, mean_over_classes
from edgepack.verify.metrics.masks import count_classes, mean_overlap, pixel_counts
from edgepack.verify.metrics.transcript import edits, letters, rate
from edgepack.verify.resampling import paired_interval

PICTURES = 12
_FEWEST = 6
_FIRST = slice(0, 1)  # an overlap of .50, or a similarity of points of .50
_MOST = 100  # boxes a picture
_MASK_SIDE = 256  # pixels: larger masks are looked at in a grid, whose cells are so many

Figure = Callable[[Array], float]  # of how often each picture counts [pictures]


@dataclasses.dataclass(frozen=True)
class _Judge:
    """How the answers of a task are held against labels.

    ``title`` names the figure. A network with less than ``poor`` is tried with other encodings, and one that gains
    ``gain`` is worth a word. ``usable`` says whether a label tells anything, ``figure`` takes labels and answers.
    """

    title: str
    poor: float
    gain: float
    usable: Callable[[Any], bool]
    figure: Callable[[Sequence[Any], Sequence[Any]], Figure]


def _precision(kind: str, wanted: Sequence[Boxes], found: Sequence[Boxes]) -> Figure:
    matches = [one.without_end() for one in find_matches(wanted, found, kind, _MOST)]
    return lambda weights: mean_over_classes((one.average_precision(weights) for one in matches), _FIRST)


def _overlap(wanted: Sequence[Mask], found: Sequence[Mask]) -> Figure:
    counts = pixel_counts(zip(wanted, found, strict=True), count_classes((*wanted, *found)))
    return lambda weights: mean_overlap(counts, weights)


def _letters(wanted: Sequence[str], found: Sequence[Transcript]) -> Figure:
    wrong, lengths = edits(letters, wanted, [one.text for one in found])
    return lambda weights: max(1 - rate(wrong * weights, lengths * weights), 0.0)


_JUDGES: Mapping[str, _Judge] = {
    "object-detection": _Judge(
        "average precision at .50", 0.3, 0.2, lambda label: isinstance(label, Boxes) and len(label) > 0,
        partial(_precision, "bbox"),
    ),
    "keypoints": _Judge(
        "average precision at .50", 0.3, 0.2,
        lambda label: isinstance(label, Boxes) and len(label) > 0 and label.points is not None,
        partial(_precision, "keypoints"),
    ),
    "semantic-segmentation": _Judge(
        "mean IoU", 0.75, 0.1, lambda label: isinstance(label, Mask) and bool((label.labels != Mask.IGNORED).any()),
        _overlap,
    ),
    "text-recognition": _Judge(
        "share of right letters", 0.75, 0.1, lambda label: isinstance(label, str) and bool(label.strip()), _letters
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Trial:
    encoding: Encoding
    figure: Figure
    count: int

    @property
    def score(self) -> float:
        return self.figure(np.ones(self.count))


def check(inspected: Inspected) -> Found:
    """Return how well answers match the labels, and a warning when they match far better with another encoding.

    Judged on a few pictures by the task's own figure. Others are tried only where it is low: a good network is run no
    more than 12 times. Outputs that the task cannot read are left to the evaluation, which names them.
    """
    judged, spec = _judged(inspected), picture_input(inspected.model)
    if judged is None or spec is None:
        return Found()
    made, task = judged.samples.preprocessing, judged.samples.task
    assert made is not None, "_judged asked for it"
    assert task is not None, "_judged asked for it"
    judge = _JUDGES[task.kind]
    wanted, positions, frames = _labelled(judged, judge)
    if len(positions) < _FEWEST:
        return Found()
    present = encoding_of(made)
    pixels = [one.astype(np.float32) for one in pixels_of(judged.samples, spec, present, positions)]
    session, task = open_session(inspected.model), dataclasses.replace(task, classes=())
    try:
        run = partial(_tried, session, spec, task, pixels, frames, wanted, judge)
        trials = _trials(run, present, judge, inspected)
    except (DataError, ToolchainError):
        return Found()
    return Found((_finding(trials, judge, f"{judged.title}, n={len(positions)}"),), len(pixels) * len(trials))


def _trials(run: Callable[[Encoding], _Trial], present: Encoding, judge: _Judge, inspected: Inspected) -> list[_Trial]:
    """Return the trial of the present encoding and, where its figure is low, those of the others."""
    trials = [run(present)]
    if trials[0].score < judge.poor:
        others = alternatives(present)
        for number, encoding in enumerate(others, 1):
            trials.append(run(encoding))
            inspected.progress("lint: answers", number, len(others))
    return trials


def _judged(inspected: Inspected) -> Surveyed | None:
    """Return labelled samples of a task that is judged, whose pictures a recipe prepares; None where there are none."""
    for one in (inspected.calibration, inspected.evaluation):
        if one is None or not one.samples.labelled or one.samples.preprocessing is None or one.samples.task is None:
            continue
        made = one.samples.preprocessing
        if one.samples.task.kind in _JUDGES and made.color != "L" and made.dtype == "float32":
            return one
    return None


def _labelled(judged: Surveyed, judge: _Judge) -> tuple[list[Any], list[int], list[Frame]]:
    """Return labels, positions and frames of up to 12 pictures with something in them, at random by a fixed seed."""
    labels, frames = read_any_labels(judged.samples), list(read_frames(judged.samples))
    order = np.random.default_rng(0).permutation(len(judged.samples.indices)).tolist()
    positions = sorted([i for i in order if judge.usable(labels[i])][:PICTURES])
    chosen = [_smaller(labels[i], frames[i]) for i in positions]
    return [label for label, _ in chosen], positions, [frame for _, frame in chosen]


def _smaller(label: Any, frame: Frame) -> tuple[Any, Frame]:
    """Return a large mask, and where its picture lies in the input, as those of a smaller picture of the same thing."""
    if not isinstance(label, Mask) or max(label.labels.shape) <= _MASK_SIDE:
        return label, frame
    sides = [min(side, _MASK_SIDE) for side in label.labels.shape]
    rows, columns = (
        ((np.arange(few) + 0.5) * side / few).astype(np.intp)
        for few, side in zip(sides, label.labels.shape, strict=True)
    )
    by = [side / few for few, side in zip(sides, label.labels.shape, strict=True)]
    small = dataclasses.replace(
        frame, height=sides[0], width=sides[1], scale_y=frame.scale_y * by[0], scale_x=frame.scale_x * by[1]
    )
    return Mask(label.labels[rows[:, None], columns[None]], label.names), small


def _tried(
    session: Any,
    spec: TensorSpec,
    task: Task,
    pixels: Sequence[Array],
    frames: Sequence[Frame],
    wanted: Sequence[Any],
    judge: _Judge,
    encoding: Encoding,
) -> _Trial:
    names = [output.name for output in session.get_outputs()]
    answers: list[Any] = []
    for picture, frame in zip(pixels, frames, strict=True):
        outputs = run_session(session, names, feed_of(spec, encoding, picture))
        answers.append(answer(task, dict(zip(names, outputs, strict=True)), frame, measuring=True))
    return _Trial(encoding, judge.figure(wanted, answers), len(wanted))


def _finding(trials: Sequence[_Trial], judge: _Judge, what: str) -> Finding:
    now, best = trials[0], max(trials, key=lambda one: one.score)
    words = f"{judge.title} is {now.score:.3f} with {now.encoding.title}"
    if best.score - now.score < judge.gain:
        return Finding("preprocessing", "note", f"{words} ({what})")
    low, high = paired_interval(best.figure, now.figure, now.count, 0)
    if low <= 0:
        return Finding("preprocessing", "note", f"{words}, {best.score:.3f} with {best.encoding.title} ({what})")
    text = (
        f"the preprocessing does not fit the model: {words}, {best.score:.3f} with {best.encoding.title} ({what}; 95 % "
        f"interval of the gain {low:+.3f} to {high:+.3f})"
    )
    hint = f"encode pixels as {best.encoding.title}: {recipe_keys(best.encoding)}"
    return Finding("preprocessing", "warning", text, hint, proven=True)
