"""What a model answers to labelled pictures with an encoding of their pixels, for the checks that judge by answers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.calibrate.instrument import run_session
from edgepack.data.samples import read_any_labels, read_frames
from edgepack.lint import Inspected, Surveyed
from edgepack.lint.encodings import Encoding, alternatives, encoding_of
from edgepack.lint.survey import picture_input
from edgepack.lint.trials import feed_of, open_session, pixels_of, recipe_keys
from edgepack.specs.data import Finding
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import answer
from edgepack.verify.resampling import paired_interval


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures of ``judged`` as pixels 0..255 [height, width, 3], and the session and task to answer them."""

    judged: Surveyed
    present: Encoding
    wanted: tuple[Any, ...]
    pixels: tuple[Array, ...]
    frames: tuple[Frame, ...]
    session: Any
    spec: TensorSpec
    task: Task

    def answers(self, encoding: Encoding, first: int = 0, end: int | None = None) -> list[Any]:
        """Return the answers to the pictures from ``first`` to ``end``, encoded so.

        Raises ``DataError`` and ``ToolchainError`` for outputs that the task cannot read.
        """
        names = [output.name for output in self.session.get_outputs()]
        found: list[Any] = []
        for picture, frame in zip(self.pixels[first:end], self.frames[first:end], strict=True):
            outputs = run_session(self.session, names, feed_of(self.spec, encoding, picture))
            found.append(answer(self.task, dict(zip(names, outputs, strict=True)), frame, measuring=True))
        return found


@dataclass(frozen=True)
class Trial:
    """How ``count`` pictures were answered with an encoding: ``figure`` of how often each counts, more is better."""

    encoding: Encoding
    figure: Callable[[Array], float]
    count: int

    @property
    def score(self) -> float:
        """The figure where each picture counts once."""
        return self.figure(np.ones(self.count))


def labelled_pictures(
    inspected: Inspected, kinds: Sequence[str], usable: Callable[[Any, Task], bool], least: int, most: int
) -> Pictures | None:
    """Return up to ``most`` pictures whose labels are ``usable``, at random by a fixed seed, for a task of ``kinds``.

    None where there are fewer than ``least``, or no recipe prepares them from colour pictures as floats.
    """
    judged, spec = _judged(inspected, kinds), picture_input(inspected.model)
    if judged is None or spec is None:
        return None
    made, task = judged.samples.preprocessing, judged.samples.task
    assert made is not None, "_judged asked for it"
    assert task is not None, "_judged asked for it"
    labels: Any = read_any_labels(judged.samples)
    positions = _positions(labels, lambda label: usable(label, task), most)
    if len(positions) < least:
        return None
    frames, present = list(read_frames(judged.samples)), encoding_of(made)
    return Pictures(
        judged=judged,
        present=present,
        wanted=tuple(labels[i] for i in positions),
        pixels=tuple(one.astype(np.float32) for one in pixels_of(judged.samples, spec, present, positions)),
        frames=tuple(frames[i] for i in positions),
        session=open_session(inspected.model),
        spec=spec,
        task=dataclasses.replace(task, classes=()),
    )


def _judged(inspected: Inspected, kinds: Sequence[str]) -> Surveyed | None:
    """Return samples whose labels are of one of ``kinds`` and whose pictures a recipe prepares, None without any."""
    for one in (inspected.calibration, inspected.evaluation):
        if one is None or not one.samples.labelled or one.samples.preprocessing is None or one.samples.task is None:
            continue
        made = one.samples.preprocessing
        if one.samples.task.kind in kinds and made.color != "L" and made.dtype == "float32":
            return one
    return None


def _positions(labels: Sequence[Any], usable: Callable[[Any], bool], most: int) -> list[int]:
    """Return the positions of usable labels, at random; they are looked at until there are enough."""
    order = np.random.default_rng(0).permutation(len(labels)).tolist()
    return list(itertools.islice((i for i in order if usable(labels[i])), most))


def try_where_poor(
    pictures: Pictures, run: Callable[[Encoding], Trial], poor: float, progress: Callable[[int, int], None]
) -> list[Trial]:
    """Return the trial of the present encoding and, where its figure is below ``poor``, those of the others."""
    trials = [run(pictures.present)]
    if trials[0].score < poor:
        others = alternatives(pictures.present)
        for number, encoding in enumerate(others, 1):
            trials.append(run(encoding))
            progress(number, len(others))
    return trials


def compare(trials: Sequence[Trial], figure: str, samples: str, least_gain: float, far: float = 0.0) -> Finding:
    """Return how the present encoding does, which is the first, and a warning where another one surely does better.

    ``figure`` names what is compared. A gain below ``least_gain``, or one whose 95 % interval is not above 0, is none
    to speak of; one of ``far`` and more proves that no figure of these samples says anything of the model.
    """
    now, best = trials[0], max(trials, key=lambda one: one.score)
    words, what = f"{figure} is {now.score:.3f} with {now.encoding.title}", f"{samples}, n={now.count}"
    gained = best.score - now.score
    if gained < least_gain:
        return Finding("preprocessing", "note", f"{words} ({what})")
    low, high = paired_interval(best.figure, now.figure, now.count, 0)
    better = f"{words}, {best.score:.3f} with {best.encoding.title} ({what}"
    if low <= 0:
        return Finding("preprocessing", "note", f"{better})")
    text = f"the preprocessing does not fit the model: {better}; 95 % interval of the gain {low:+.3f} to {high:+.3f})"
    hint = f"encode pixels as {best.encoding.title}: {recipe_keys(best.encoding)}"
    return Finding("preprocessing", "warning", text, hint, proven=gained >= far)
