"""miou and pixel-accuracy: how much of each class's pixels, and of all pixels, a segmenter gets right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from edgepack.errors import DataError
from edgepack.specs.answer import Mask
from edgepack.specs.run import Accuracy, ClassFigure
from edgepack.verify.answers import answers, class_name, most_changed, truth_of, truths
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.resampling import paired_interval

if TYPE_CHECKING:
    from edgepack.specs.types import Array
    from edgepack.verify.outputs import OutputReader

_LOW = 0.02


def _counts(compared: Compared, reader: OutputReader, classes: int) -> Array:
    """Return for each sample and class its right pixels, those labelled and those answered, float64 [n, 3, classes]."""
    import numpy as np

    rows = []
    for truth, found in zip(truths(compared), answers(compared, reader), strict=True):
        if not isinstance(truth, Mask) or not isinstance(found, Mask) or truth.labels.shape != found.labels.shape:
            raise DataError(
                f"{compared.metric} needs a mask of each picture's own size as its label",
                hint="give masks beside the pictures, see 'Masks' in docs/data-and-recipes.md",
            )
        rows.append(count_pixels(truth, found, classes))
    return np.array(rows, np.float64)


def count_pixels(truth: Mask, found: Mask, classes: int) -> Array:
    """Return for each class the right pixels, those labelled and those answered, [3, classes], of masks of one size."""
    import numpy as np

    known = truth.labels != Mask.IGNORED
    want, have = truth.labels[known].astype(np.int64), found.labels[known].astype(np.int64)
    right = np.bincount(want[want == have], minlength=classes)
    parts = (right, np.bincount(want, minlength=classes), np.bincount(have, minlength=classes))
    return np.stack([part[:classes] for part in parts])


def _classes(compared: Compared) -> int:
    """Return how many classes there are: labels and answers of both models, whichever has the highest."""
    import numpy as np

    highest = 0
    for mask in (*truths(compared), *answers(compared, compared.expected), *answers(compared, compared.found)):
        labels = mask.labels[mask.labels != Mask.IGNORED]
        highest = max(highest, int(np.max(labels, initial=0)))
    return highest + 1


def mean_overlap(counts: Array, weights: Array) -> float:
    """Return the mean IoU of the labelled classes over pictures of ``counts``, each counted ``weights`` times [n]."""
    import numpy as np

    right, want, have = np.tensordot(weights, counts, axes=1)
    union = want + have - right
    known = want > 0  # a class that is labelled nowhere has no share that could be found
    return float((right[known] / union[known]).mean()) if known.any() else float("nan")


def _pixels(counts: Array, weights: Array) -> float:
    import numpy as np

    right, want, _ = np.tensordot(weights, counts, axes=1)
    return float(right.sum() / want.sum()) if want.sum() else float("nan")


def _by_class(compared: Compared, counts: Sequence[Array]) -> tuple[ClassFigure, ...]:
    """Return the overlap of each class that is labelled."""
    import numpy as np

    sums = np.array([of_model.sum(axis=0) for of_model in counts])
    names = truths(compared)[0].names
    overlap = sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2] - sums[:, 0], 1)
    return most_changed(
        [
            ClassFigure(class_name(names, int(i)), int(sums[0, 1, i]), float(overlap[0, i]), float(overlap[1, i]))
            for i in np.flatnonzero(sums[0, 1])
        ]
    )


def _measure(figure: Callable[[Array, Array], float], compared: Compared) -> Accuracy | str:
    import numpy as np

    classes = _classes(compared)
    counts = [_counts(compared, reader, classes) for reader in (compared.expected, compared.found)]
    before, after = (partial(figure, of_model) for of_model in counts)
    n = len(truths(compared))
    one, other = before(np.ones(n)), after(np.ones(n))
    if not np.isfinite(one):
        return f"{compared.metric}: no pixel of the samples is labelled"
    interval = paired_interval(before, after, n, compared.seed)
    return Accuracy(
        compared.metric, n, one, other, one - other, interval, truth_of(compared), _by_class(compared, counts)
    )


def _doubt(_compared: Compared, found: Accuracy) -> str | None:
    if found.truth != "labels" or found.fp32 >= _LOW:
        return None
    return (
        f"the fp32 model itself has a {found.metric} of {100 * found.fp32:.2f} % (n={found.n}): the masks are not "
        "those of its classes, or are in another order, or the preprocessing is wrong"
    )


MIOU = Metric(partial(_measure, mean_overlap), "mean IoU of classes", "%", of_answers=True, doubt=_doubt)
PIXEL_ACCURACY = Metric(partial(_measure, _pixels), "share of right pixels", "%", of_answers=True, doubt=_doubt)
