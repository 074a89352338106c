"""Checks a model with parts of its task in the graph against the same model without, and measures both."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.stage import stage
from edgepack.data.annotated import OF_BOXES
from edgepack.data.mask_folder import SEGMENTATION
from edgepack.data.preprocess import normalize
from edgepack.data.samples import read_samples
from edgepack.embed.pixels import bytes_of
from edgepack.engines import get_backend
from edgepack.errors import VerificationError
from edgepack.specs.answer import Boxes
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.embed import EmbeddedCheck, Way
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions, Verification
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array, Part, Progress, no_progress
from edgepack.tasks import PICTURE_CLASSES, TENSORS, answer
from edgepack.verify.distance import distances
from edgepack.verify.golden import GOLDEN, Compare, Golden, copied, read_golden, run_golden, with_policy, write_golden
from edgepack.verify.same_answers import STRICT, Difference, compare_answers, difference

if TYPE_CHECKING:
    from edgepack.verify.golden import Infer

# The share of samples whose answer may be another: where two boxes overlap by just the limit, rounding decides.
_MOST = 0.02
# Outputs that are compared themselves: rounding leaves more than this in the same precision on the same machine.
_SAME_DB = 40.0
_ROUNDS, _PICTURES = 24, 8
_LOOKED_AT = 64  # samples of which those with most boxes become golden vectors; more, while none of them has one


@dataclass(frozen=True)
class Side:
    """One of the two models: how its input is made and how its outputs are read."""

    compiled: CompiledModel
    preprocessing: Preprocessing
    task: Task | None


@dataclass(frozen=True)
class EmbeddedEvaluation:
    """What the check found, the golden vectors of the embedded model, and its verification on them."""

    check: EmbeddedCheck
    golden: Path
    verification: Verification


def _engine_here(outer: Side, *_others: object) -> Mapping[str, str]:
    return get_backend(outer.compiled.backend).versions()


@stage("verify", host="speed", depends=_engine_here)
def check_embedded(
    outer: Side,
    inner: Side,
    done: Mapping[Part, str],
    golden: Path,
    samples: SampleSet,
    options: RunOptions,
    out: Path,
    progress: Progress = no_progress,
) -> EmbeddedEvaluation:
    """Run both models on every sample and compare their answers; time both from the pixels to the answer.

    ``golden`` are the vectors of the outer model. Those of the embedded one hold its own inputs; its outputs are the
    fp32 model's still, unless it answers itself: then they are its answers, which were found to be the outer way's.
    Raises ``VerificationError`` where more than a few answers differ.
    """
    backend = get_backend(outer.compiled.backend)
    first = backend.load_model(outer.compiled, options)
    try:
        second = backend.load_model(inner.compiled, options)
        try:
            pair = _Pair(outer, inner, first.infer, second.infer, answers="postprocessing" in done)
            vectors = _golden(pair, read_golden(golden), samples)
            verification = _verified(pair, vectors)
            found, count = _compared(pair, samples, progress)
            enlarged = _enlarged(pair, samples)
            ways, rounds = _timed(pair, vectors)
        finally:
            second.close()
    finally:
        first.close()
    same, things = sum(not one.differing for one in found), sum(one.things for one in found)
    versions = " ".join(outer.compiled.versions.values())
    check = EmbeddedCheck(
        done, count, same, max((one.largest for one in found), default=0.0), *ways, rounds, things,
        f"{outer.compiled.backend} {versions}", enlarged,
    )  # fmt: skip
    refuse_different(check)
    return EmbeddedEvaluation(check, write_golden(vectors, out / GOLDEN), verification)


def refuse_different(check: EmbeddedCheck) -> None:
    """Raise ``VerificationError`` where there are no answers, or more differ between the ways than rounding explains.

    A detector that finds nothing in any sample shows nothing of its postprocessing.
    """
    if not check.things:
        raise VerificationError(
            f"nothing is found in any of {check.samples} samples, with or without {' and '.join(check.done)} in the "
            "graph: there is nothing to compare",
            hint="give samples with things in them, or lower score in [task.settings] of the recipe",
        )
    if check.samples - check.same > max(1, _MOST * check.samples) or not check.same:
        raise VerificationError(
            f"with {' and '.join(check.done)} in the graph {check.samples - check.same} of {check.samples} answers "
            "are others than without",
            hint="leave --embed out, or embed one part only to see which it is",
        )


@dataclass(frozen=True)
class _Pair:
    """The two models, loaded; ``answers`` says that the inner one answers itself."""

    outer: Side
    inner: Side
    first: Infer
    second: Infer
    answers: bool

    @property
    def name(self) -> str:
        return self.outer.compiled.inputs[0].name

    @property
    def task(self) -> Task:
        """The task of the outer model; of one that says none, class scores where the inner one chooses classes."""
        return self.outer.task or Task(PICTURE_CLASSES if self.answers else TENSORS)

    def given(self, array: Array) -> dict[str, Array]:
        """Return the inner model's input for what the outer one is fed."""
        takes_bytes = self.inner.preprocessing.dtype == "uint8"
        return {self.name: bytes_of(array, self.outer.preprocessing) if takes_bytes else array}

    def frame(self, array: Array) -> Frame:
        sides = array.shape[2:4] if self.outer.preprocessing.layout == "NCHW" else array.shape[1:3]
        return Frame(sides[0], sides[1], sides[0], sides[1])

    def by_answers(self) -> bool:
        """Say whether answers are compared: boxes or classes; else outputs are."""
        return self.answers or self.task.kind in (PICTURE_CLASSES, *OF_BOXES)


def _golden(pair: _Pair, vectors: Golden, samples: SampleSet) -> Golden:
    """Return the golden vectors of the inner model: with its inputs and, where it answers itself, its answers."""
    if not pair.answers:
        alike = tuple(pair.given(sample[pair.name]) for sample in vectors.inputs)
        return dataclasses.replace(vectors, inputs=alike, tolerance=None)
    arrays = [sample[pair.name] for sample in vectors.inputs]
    if pair.task.kind in OF_BOXES:
        arrays = _with_most_things(pair, samples)
    given = [pair.given(array) for array in arrays[: len(vectors.inputs)]]
    return Golden(tuple(given), tuple(copied(pair.second(one)) for one in given))


def _with_most_things(pair: _Pair, samples: SampleSet) -> list[Array]:
    """Return the inputs of the first samples, those with most things first; of more where these have none."""
    found: list[tuple[float, Array]] = []
    for feeds in read_samples(samples, pair.outer.compiled.inputs):
        array = feeds[pair.name][:1]
        things = _things(pair, array)
        if len(found) < _LOOKED_AT or things:
            found.append((things, array))
        if len(found) >= _LOOKED_AT and any(there for there, _ in found):
            break
    return [array for _, array in sorted(found, key=lambda one: -one[0])]


def _things(pair: _Pair, array: Array) -> float:
    """Return how many things the inner model finds, each by its score: of none, nothing can be verified."""
    found = answer(pair.inner.task or pair.task, _named(pair.second(pair.given(array)), pair.inner), pair.frame(array))
    return float(np.sum(found.scores)) if isinstance(found, Boxes) else 0.0


def _verified(pair: _Pair, vectors: Golden) -> Verification:
    compiled = pair.inner.compiled
    compare: Compare = distances
    if pair.answers:
        height, width = _sides_of(vectors.inputs[0][pair.name], pair.inner.preprocessing)
        task = pair.inner.task or Task(PICTURE_CLASSES)
        compare = compare_answers(task, Frame(height, width, height, width), compiled.precision)
    held = with_policy(vectors, compiled.precision)
    return run_golden(pair.second, held, compiled.inputs, compiled.backend, compiled.versions, compare=compare)


def _sides_of(array: Array, made: Preprocessing) -> tuple[int, int]:
    sides = array.shape[2:4] if made.layout == "NCHW" else array.shape[1:3]
    return int(sides[0]), int(sides[1])


def _compared(pair: _Pair, samples: SampleSet, progress: Progress) -> tuple[list[Difference], int]:
    """Return how the answers to each sample differ."""
    found: list[Difference] = []
    for i, feeds in enumerate(read_samples(samples, pair.outer.compiled.inputs)):
        array = feeds[pair.name]
        found += (_differs(pair, array[n : n + 1]) for n in range(len(array)))
        progress("with and without", i + 1, len(samples.indices))
    return found, len(found)


def _enlarged(pair: _Pair, samples: SampleSet) -> float | None:
    """Return the mean share of a mask's pixels that differ in the first pictures, seen at twice the input's sides.

    There the outer way has scores between those of the input's pixels, the inner one the nearest pixel's class.
    """
    if not pair.answers or pair.task.kind != SEGMENTATION:
        return None
    found = []
    for feeds in itertools.islice(read_samples(samples, pair.outer.compiled.inputs), _PICTURES):
        array = feeds[pair.name][:1]
        frame = twice(pair.frame(array))
        first, second = copied(pair.first({pair.name: array})), copied(pair.second(pair.given(array)))
        answers = (
            answer(pair.task, _named(first, pair.outer), frame),
            answer(pair.inner.task or pair.task, _named(second, pair.inner), frame),
        )
        found.append(difference(*answers, STRICT).largest)
    return float(np.mean(found)) if found else None


def twice(frame: Frame) -> Frame:
    """Return the frame of a picture of twice the input's sides."""
    return dataclasses.replace(frame, height=2 * frame.height, width=2 * frame.width, scale_x=0.5, scale_y=0.5)


def _differs(pair: _Pair, array: Array) -> Difference:
    expected, found = copied(pair.first({pair.name: array})), copied(pair.second(pair.given(array)))
    if pair.by_answers():
        frame, task = pair.frame(array), pair.task
        least = task.settings.get("score", 0.25)
        answers = (
            answer(task, _named(expected, pair.outer), frame),
            answer(pair.inner.task or task, _named(found, pair.inner), frame),
        )
        compared = difference(*answers, STRICT, float(least) if isinstance(least, int | float) else 0.25)
        if compared.things or pair.answers:
            return compared
    return _of_outputs(expected, found)


def _named(outputs: Mapping[str, Array], side: Side) -> dict[str, Array]:
    """Return outputs in the model's order."""
    return {spec.name: outputs[spec.name] for spec in side.compiled.outputs}


def _of_outputs(expected: Mapping[str, Array], found: Mapping[str, Array]) -> Difference:
    compared = distances([expected], [found], None)
    wrong = [one for one in compared if not one.passed or (one.sqnr_db is not None and one.sqnr_db < _SAME_DB)
             or (one.mismatch or 0.0) > _MOST]  # fmt: skip
    largest = [
        one.max_abs / max(float(np.abs(np.asarray(expected[one.name], np.float64)).max(initial=0.0)), 1e-12)
        for one in compared
    ]
    return Difference(1, int(bool(wrong)), max(largest, default=0.0))


def _timed(pair: _Pair, vectors: Golden) -> tuple[tuple[Way, Way], int]:
    """Return the median times of both ways, in turn, from pixels of the model's size to the answer."""
    pictures = list(itertools.islice(_pixels(pair, vectors), _PICTURES))
    times: list[list[tuple[int, int]]] = [[], []]
    for number in range(_ROUNDS):
        picture = pictures[number % len(pictures)]
        for which, side in ((0, pair.outer), (1, pair.inner)) if number % 2 else ((1, pair.inner), (0, pair.outer)):
            times[which].append(_time_once(pair, side, picture, inner=which == 1))
    medians = [np.median(np.array(found[2:]), axis=0) for found in times]  # the first ones warm up
    return (Way(int(medians[0][0]), int(medians[0][1])), Way(int(medians[1][0]), int(medians[1][1]))), _ROUNDS - 2


def _pixels(pair: _Pair, vectors: Golden) -> Iterator[Array]:
    """Yield pictures of the model's size as a camera gives them: uint8 [height, width, channels]."""
    for sample in vectors.inputs:
        array = sample[pair.name]
        made = pair.inner.preprocessing
        yield array[0] if made.dtype == "uint8" else bytes_of(array, made)[0]


def _time_once(pair: _Pair, side: Side, pixels: Array, *, inner: bool) -> tuple[int, int]:
    made = side.preprocessing
    infer = pair.second if inner else pair.first
    frame = Frame(pixels.shape[0], pixels.shape[1], pixels.shape[0], pixels.shape[1])
    begin = time.perf_counter_ns()
    turned = pixels[:, :, ::-1] if made.color == "BGR" else pixels
    feeds = {pair.name: normalize(turned, made)[None]}
    ready = time.perf_counter_ns()
    outputs = infer(feeds)
    ran = time.perf_counter_ns()
    answer((side.task if side.task is not None else pair.task), _named(outputs, side), frame)
    return time.perf_counter_ns() - begin, ran - ready


def in_words(check: EmbeddedCheck) -> str:
    """Return what was embedded, whether answers stayed the same, and what it saves, in a sentence."""
    compared = f" ({check.things} compared)" if check.things > check.samples else ""
    text = f"{' and '.join(check.done)} in the graph: the same answers on {check.same} of {check.samples} samples"
    text += compared
    if check.enlarged is not None:
        text += f", {100 * check.enlarged:.2g} % of the pixels others where a picture has twice the input's sides"
    if check.outer is None or check.embedded is None:
        return text
    times = (f"{way.total_ns / 1e6:.2f} ms ({way.engine_ns / 1e6:.2f} of it in the engine)"
             for way in (check.embedded, check.outer))  # fmt: skip
    with_it, without = times
    return f"{text}; from pixels to the answer {with_it}, without {without} (medians of {check.timed} in turn)"
