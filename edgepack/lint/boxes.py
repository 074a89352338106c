"""Judges whether a detector's preprocessing fits, by how well it finds labelled things with the usual alternatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgepack.calibrate.instrument import run_session
from edgepack.data.annotated import OF_BOXES
from edgepack.data.samples import read_any_labels, read_frames
from edgepack.errors import DataError, ToolchainError
from edgepack.lint import Found, Inspected, Surveyed
from edgepack.lint.encodings import Encoding, alternatives, encoding_of
from edgepack.lint.survey import picture_input
from edgepack.lint.trials import feed_of, open_session, pixels_of, recipe_keys
from edgepack.specs.answer import Boxes
from edgepack.specs.data import Finding
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import answer
from edgepack.verify.average_precision import ClassMatches, find_matches, mean_over_classes
from edgepack.verify.resampling import paired_interval

PICTURES = 12
_FEWEST = 6
_POOR = 0.3  # a detector that finds more than this with its preprocessing is not tried with others
_GAIN = 0.2
_FIRST = slice(0, 1)  # an overlap of .50, or a similarity of points of .50
_MOST = 100  # boxes a picture


@dataclasses.dataclass(frozen=True)
class _Trial:
    encoding: Encoding
    found: tuple[ClassMatches, ...]
    count: int

    def figure(self, weights: Array) -> float:
        return mean_over_classes((one.average_precision(weights) for one in self.found), _FIRST)

    @property
    def score(self) -> float:
        return self.figure(np.ones(self.count))


def check(inspected: Inspected) -> Found:
    """Return how well a detector finds labelled boxes or points, and a warning when it does far better with others.

    The average precision at .50 on a few pictures is compared. Others are tried only where it is low: a good detector
    is run no more than 12 times. Outputs that the task cannot read are left to the evaluation, which names them.
    """
    judged, spec = _judged(inspected), picture_input(inspected.model)
    if judged is None or spec is None:
        return Found()
    wanted, positions, frames = _labelled(judged)
    if len(positions) < _FEWEST:
        return Found()
    made = judged.samples.preprocessing
    assert made is not None, "_judged asked for it"
    task = judged.samples.task
    assert task is not None, "_judged asked for it"
    present = encoding_of(made)
    pixels = [one.astype(np.float32) for one in pixels_of(judged.samples, spec, present, positions)]
    session, task = open_session(inspected.model), dataclasses.replace(task, classes=())
    try:
        trials = _trials(partial(_tried, session, spec, task, pixels, frames, wanted), present, inspected)
    except (DataError, ToolchainError):
        return Found()
    return Found((_finding(trials, f"{judged.title}, n={len(positions)}"),), len(pixels) * len(trials))


def _trials(run: Callable[[Encoding], _Trial], present: Encoding, inspected: Inspected) -> list[_Trial]:
    """Return the trial of the present encoding and, where it finds little, those of the others."""
    trials = [run(present)]
    if trials[0].score < _POOR:
        others = alternatives(present)
        for number, encoding in enumerate(others, 1):
            trials.append(run(encoding))
            inspected.progress("lint: boxes", number, len(others))
    return trials


def _judged(inspected: Inspected) -> Surveyed | None:
    """Return samples whose labels are of boxes and whose pictures a recipe prepares, None where there are none."""
    for one in (inspected.calibration, inspected.evaluation):
        if one is None or not one.samples.labelled or one.samples.preprocessing is None or one.samples.task is None:
            continue
        made = one.samples.preprocessing
        if one.samples.task.kind in OF_BOXES and made.color != "L" and made.dtype == "float32":
            return one
    return None


def _labelled(judged: Surveyed) -> tuple[list[Boxes], list[int], list[Frame]]:
    """Return labels, positions and frames of up to 12 pictures with something in them, at random by a fixed seed."""
    labels, frames = read_any_labels(judged.samples), list(read_frames(judged.samples))
    order = np.random.default_rng(0).permutation(len(judged.samples.indices)).tolist()
    of_points = judged.samples.task is not None and judged.samples.task.kind == "keypoints"
    usable = [i for i in order if _usable(labels[i], of_points=of_points)]
    positions = sorted(usable[:PICTURES])
    return [labels[i] for i in positions], positions, [frames[i] for i in positions]


def _usable(label: object, *, of_points: bool) -> bool:
    return isinstance(label, Boxes) and len(label) > 0 and (label.points is not None or not of_points)


def _tried(
    session: Any,
    spec: TensorSpec,
    task: Task,
    pixels: Sequence[Array],
    frames: Sequence[Frame],
    wanted: Sequence[Boxes],
    encoding: Encoding,
) -> _Trial:
    names = [output.name for output in session.get_outputs()]
    answers: list[Any] = []
    for picture, frame in zip(pixels, frames, strict=True):
        outputs = run_session(session, names, feed_of(spec, encoding, picture))
        answers.append(answer(task, dict(zip(names, outputs, strict=True)), frame, measuring=True))
    kind = "keypoints" if task.kind == "keypoints" else "bbox"
    found = tuple(one.without_end() for one in find_matches(wanted, answers, kind, _MOST))
    return _Trial(encoding, found, len(wanted))


def _finding(trials: Sequence[_Trial], what: str) -> Finding:
    now, best = trials[0], max(trials, key=lambda one: one.score)
    words = f"average precision at .50 is {now.score:.3f} with {now.encoding.title}"
    if best.score - now.score < _GAIN:
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
