"""How many of fp32's answers another precision does not give again, without labels: boxes, classes, pixels, texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgepack.base.intervals import proportion_ci95
from edgepack.data.samples import read_frames
from edgepack.errors import EdgepackError
from edgepack.specs.run import ChangedAnswers
from edgepack.specs.signal_answers import Vector
from edgepack.tasks import TASKS, TENSORS, answer
from edgepack.verify.changes import ChangesFinder, find_changes, with_names
from edgepack.verify.found_again import Again, kind_of_answer

if TYPE_CHECKING:
    from edgepack.specs.answer import Answer
    from edgepack.specs.changes import Changes
    from edgepack.specs.data import SampleSet
    from edgepack.specs.task import Frame, Task
    from edgepack.specs.types import Array
    from edgepack.verify.closeness import Closeness
    from edgepack.verify.outputs import OutputReader

_RESAMPLES = 1000
_FEWEST_VECTORS = 3  # of two vectors each is the other's nearest, whatever they are


def measure_change(
    samples: SampleSet,
    expected: OutputReader,
    found: OutputReader,
    closeness: Closeness,
    seed: int,
    *,
    examples: bool = False,
) -> tuple[ChangedAnswers | str, Changes | None]:
    """Return how many of fp32's answers ``found`` does not give again, or, as a text, why that cannot be said.

    The task says what an answer is: a box of the same class that overlaps by half, the best class, a pixel's class, the
    nearest other vector. Without a task it is the class with the highest score (``closeness``). ``seed`` fixes the
    bootstrap over samples. With ``examples`` also which answers these are (``changes.py``), of the same reading.
    """
    task = samples.task
    if task is None or task.kind == TENSORS:
        scores = closeness.agreement is not None
        return _of_scores(closeness), find_changes(expected, found, samples, scores=scores) if examples else None
    if TASKS.get(task.kind).stream is not None:
        return f"the answers of {task.kind} are not made of one sample each", None
    try:
        named = with_names(task, samples) if examples else task
        finder = ChangesFinder(named, samples) if examples else None
        return _of_task(samples, named, expected, found, seed, finder), finder.result() if finder else None
    except EdgepackError as error:
        # the samples may name other classes than the model has: that says nothing of what changed
        again = examples and not task.classes
        return measure_change(samples, expected, found, closeness, seed) if again else (error.message, None)


def _of_scores(closeness: Closeness) -> ChangedAnswers | str:
    if closeness.agreement is None:
        return "the first output is not class scores [batch, classes], and no task says what the answers are"
    lost = round((1 - closeness.agreement) * closeness.n)
    low, high = proportion_ci95(lost, closeness.n)
    return ChangedAnswers("classes", closeness.n, lost, closeness.n, (low, high))


def _of_task(
    samples: SampleSet,
    task: Task,
    expected: OutputReader,
    found: OutputReader,
    seed: int,
    finder: ChangesFinder | None,
) -> ChangedAnswers | str:
    counts: list[Again] = []
    vectors: list[tuple[Vector, Vector]] = []
    words = "answers"
    for index, frame in enumerate(read_frames(samples)):
        first, shown, everything = _answers(task, expected.sample(index), found.sample(index), frame)
        if finder is not None:
            finder.add(index, first, shown, frame)
        if isinstance(first, Vector) and isinstance(shown, Vector):
            vectors.append((first, shown))
            continue
        kind = kind_of_answer(first)
        if kind is None:
            return f"answers of {task.kind} are numbers, of which none is the same again"
        words = kind.words
        counts.append(kind.compare(first, shown, everything))
    return _nearest(vectors) if vectors else _summed(words, counts, seed)


def _answers(
    task: Task, expected: Mapping[str, Array], found: Mapping[str, Array], frame: Frame
) -> tuple[Answer, Answer, Answer]:
    """Return fp32's answer and the other's, as they are shown, and all that the other found."""
    everything = answer(task, found, frame, measuring=True)
    return answer(task, expected, frame), answer(task, found, frame), everything


def _summed(words: str, counts: Sequence[Again], seed: int) -> ChangedAnswers | str:
    n, lost = sum(one.n for one in counts), sum(one.lost for one in counts)
    if not n:
        return f"fp32 gives no answer: there are no {words} in {len(counts)} samples"
    return ChangedAnswers(words, n, lost, len(counts), _interval(counts, seed), sum(one.unsure for one in counts))


def _interval(counts: Sequence[Again], seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the share of lost answers.

    Those of one sample are not independent of each other: samples are resampled. Where all or none are lost that has no
    width: there it is Wilson's, for one answer a sample.
    """
    import numpy as np

    rows = np.array([(one.n, one.lost) for one in counts if one.n], np.float64)
    share = float(rows[:, 1].sum() / rows[:, 0].sum())
    if (rows[:, 0] == 1).all() or share in (0.0, 1.0):
        return proportion_ci95(round(share * len(rows)), len(rows))
    drawn = np.random.default_rng(seed).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=_RESAMPLES)
    sums: Any = drawn @ rows
    low, high = np.percentile(sums[:, 1] / sums[:, 0], [2.5, 97.5])
    return float(low), float(high)


def _nearest(vectors: Sequence[tuple[Vector, Vector]]) -> ChangedAnswers | str:
    """Count the vectors whose nearest other one is another one's than in fp32."""
    import numpy as np

    from edgepack.verify.metrics.embedding import neighbours

    n = len(vectors)
    if n < _FEWEST_VECTORS:
        return f"the nearest of {n} vectors says nothing: give {_FEWEST_VECTORS} samples or more"
    first, other = (np.stack([pair[place].values for pair in vectors]) for place in (0, 1))
    same = (neighbours(first, 1) == neighbours(other, 1))[:, 0] & ~np.isnan(other).any(axis=1)
    lost = int(n - same.sum())
    return ChangedAnswers("nearest vectors", n, lost, n, proportion_ci95(lost, n))
