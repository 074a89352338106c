"""What a model answers to labelled pictures with an encoding of their pixels, for the checks that judge by answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.calibrate.instrument import run_session
from edgepack.data.samples import read_any_labels, read_frames
from edgepack.lint import Inspected, Surveyed
from edgepack.lint.encodings import Encoding, encoding_of
from edgepack.lint.survey import picture_input
from edgepack.lint.trials import feed_of, open_session, pixels_of, recipe_keys
from edgepack.specs.data import Finding
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import answer


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
    positions = _positions(judged, lambda label: usable(label, task), most)
    if len(positions) < least:
        return None
    labels, frames, present = read_any_labels(judged.samples), list(read_frames(judged.samples)), encoding_of(made)
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


def _positions(judged: Surveyed, usable: Callable[[Any], bool], most: int) -> list[int]:
    """Return the positions of usable pictures, at random; labels are looked at until there are enough."""
    labels = read_any_labels(judged.samples)
    found: list[int] = []
    for i in np.random.default_rng(0).permutation(len(judged.samples.indices)).tolist():
        if len(found) == most:
            break
        if usable(labels[i]):
            found.append(i)
    return found


def does_not_fit(
    words: str, better: Encoding, score: float, what: str, gain: tuple[float, float], *, proven: bool = True
) -> Finding:
    """Return the warning that answers are far better with another encoding; ``gain`` is its 95 % interval."""
    text = (
        f"the preprocessing does not fit the model: {words}, {score:.3f} with {better.title} ({what}; 95 % "
        f"interval of the gain {gain[0]:+.3f} to {gain[1]:+.3f})"
    )
    return Finding(
        "preprocessing", "warning", text, f"encode pixels as {better.title}: {recipe_keys(better)}", proven=proven
    )
