"""Checks whether the samples' normalisation and order of channels fit the model, by trying the usual alternatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.calibrate.encodings import USUAL, Encoding, encoding_of, guess_encoding
from edgepack.calibrate.pictures import list_pictures
from edgepack.calibrate.preprocess import open_picture
from edgepack.calibrate.samples import read_samples
from edgepack.calibrate.survey import Survey, channel_axis, picture_input, to_pixels
from edgepack.evaluate.metrics import paired_difference_ci95
from edgepack.specs import Array, Diagnostic, OnnxModel, SampleSet, TensorSpec

FIRST_SAMPLES, MOST_SAMPLES = 64, 300
_RESAMPLES = 1000
# Without labels: a smaller gain in information than this, in nats, is not worth a warning. Measured: the right encoding
# is 0.22 above ImageNet's for EfficientNet-Lite0, where that costs 40 % of the answers, and never 0.02 below another.
_LEAST_GAIN = 0.05


@dataclass(frozen=True)
class Trial:
    """What the model answered with one encoding, as probabilities [samples, classes]."""

    encoding: Encoding
    probabilities: Array


def try_alternatives(
    model: OnnxModel,
    samples: SampleSet,
    survey: Survey,
    labels: Array | None,
    tell: Callable[[int, int], None],
) -> list[Diagnostic]:
    """Return how well the model answers with the usual encodings, and a warning when another one is better.

    With labels an answer is right or wrong, and "better" means that the 95 % interval of the paired difference of
    accuracies lies above 0. Without, what counts is how much the answers tell, ``information``, with a bootstrap
    interval. A few samples choose the best alternative, more of them compare it with the present encoding. Empty for
    models that do not classify colour pictures, and when the samples' own encoding cannot be told.
    """
    spec = picture_input(model)
    outputs = model.outputs[0].shape
    if spec is None or len(outputs) != 2 or outputs[-1] in (0, 1):
        return []
    present = _present(samples, survey)
    if present is None:
        return []
    labels = labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu" else None
    session = _session(model)
    first = min(len(samples.indices), FIRST_SAMPLES)
    encodings = [present, *(e for e in USUAL if (e.name, e.bgr) != (present.name, present.bgr))]
    most = min(len(samples.indices), MOST_SAMPLES)
    total = len(encodings) * first + 2 * (most - first)
    count = _Counter(tell, total)
    trials = _run(session, spec, encodings, _pixels(samples, spec, present, first), count)
    scores = [_score(trial, labels) for trial in trials]
    best = int(np.argmax(scores[1:])) + 1
    found = [_table(trials, scores, labels, first)]
    if scores[best] <= scores[0]:
        return found
    if most > first:
        pair = [trials[0].encoding, trials[best].encoding]
        pixels = _pixels(samples, spec, present, most)
        rest = _run(session, spec, pair, (p for i, p in enumerate(pixels) if i >= first), count)
        now, other = (_join(trials[k], rest[i]) for i, k in enumerate((0, best)))
    else:
        now, other = trials[0], trials[best]
    low, high = _difference(now, other, labels)
    if low > (0.0 if labels is not None else _LEAST_GAIN):
        found.append(_warning(now, other, labels, (low, high), sure=samples.preprocessing is not None))
    return found


def information(probabilities: Array) -> float:
    """Return how much the answers [samples, classes] tell about the samples, in nats.

    The mutual information of sample and answer, H(mean p) - mean H(p): large when the model is sure of each sample and
    answers differ between samples (Bridle, Heading, MacKay, "Unsupervised Classifiers", NIPS 1991). A wrong
    normalisation makes it unsure, or sure of the same few classes.
    """
    return float(_entropy(probabilities.mean(axis=0)) - _entropy(probabilities).mean())


def _entropy(p: Array) -> Array:
    result: Array = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1)
    return result


def _present(samples: SampleSet, survey: Survey) -> Encoding | None:
    if samples.preprocessing is not None:
        return encoding_of(samples.preprocessing) if samples.preprocessing.color != "L" else None
    channels = survey.channels[0]
    return guess_encoding(channels.minima, channels.maxima)


def _pixels(samples: SampleSet, spec: TensorSpec, present: Encoding, count: int) -> Iterator[Array]:
    """Yield the first samples as pixels 0..255, [height, width, 3] in RGB."""
    if samples.preprocessing is not None:
        made = replace(samples.preprocessing, color="RGB")
        names = list_pictures(Path(samples.source)).names
        for index in samples.indices[:count]:
            path = Path(samples.source) / names[index]
            yield open_picture(path.read_bytes(), str(path), made).astype(np.float64)
        return
    for index, feed in enumerate(read_samples(samples, (spec,))):
        if index >= count:
            return
        yield present.decode(to_pixels(feed[spec.name], spec).astype(np.float64))


def _session(model: OnnxModel) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])


class _Counter:
    """Counts inferences for the progress."""

    def __init__(self, tell: Callable[[int, int], None], total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0

    def step(self) -> None:
        self._done += 1
        self._tell(min(self._done, self._total), self._total)


def _run(
    session: Any, spec: TensorSpec, encodings: list[Encoding], pixels: Iterator[Array], count: _Counter
) -> list[Trial]:
    name = session.get_outputs()[0].name
    rows: list[list[Array]] = [[] for _ in encodings]
    for picture in pixels:
        for row, encoding in zip(rows, encodings, strict=True):
            values = encoding.encode(picture)
            values = values if channel_axis(spec) == 3 else values.transpose(2, 0, 1)
            feed = {spec.name: np.ascontiguousarray(values[None], dtype=spec.dtype)}
            row.append(np.asarray(session.run([name], feed)[0], dtype=np.float64)[0])
            count.step()
    return [Trial(e, _probabilities(np.stack(row))) for e, row in zip(encodings, rows, strict=True)]


def _probabilities(scores: Array) -> Array:
    """Return scores [samples, classes] as probabilities; those that already are stay as they are."""
    scores = np.nan_to_num(scores, nan=0.0, posinf=1e30, neginf=-1e30)
    if scores.min() >= 0 and np.abs(scores.sum(axis=1) - 1).max() < 1e-3:
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


def _right(trial: Trial, labels: Array) -> Array:
    right: Array = trial.probabilities.argmax(axis=1) == labels[: len(trial.probabilities)]
    return right


def _score(trial: Trial, labels: Array | None) -> float:
    return float(_right(trial, labels).mean()) if labels is not None else information(trial.probabilities)


def _join(one: Trial, more: Trial) -> Trial:
    return Trial(one.encoding, np.concatenate([one.probabilities, more.probabilities]))


def _difference(now: Trial, other: Trial, labels: Array | None) -> tuple[float, float]:
    """Return the 95 % interval of what the other encoding gains."""
    if labels is not None:
        return paired_difference_ci95(_right(other, labels), _right(now, labels))
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(0, len(now.probabilities), len(now.probabilities))
        gains.append(information(other.probabilities[chosen]) - information(now.probabilities[chosen]))
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)


def _table(trials: list[Trial], scores: list[float], labels: Array | None, count: int) -> Diagnostic:
    order = np.argsort(scores)[::-1]
    what = "top-1 accuracy" if labels is not None else "information in the answers, in nats,"
    shown = [*order[:6], *([0] if 0 not in order[:6] else [])]
    words = [f"{trials[i].encoding.title}: {scores[i]:.3f}" + (" (now)" if i == 0 else "") for i in shown]
    return Diagnostic("note", f"{what} on {count} samples with the usual encodings: " + "; ".join(words))


def _warning(
    now: Trial, other: Trial, labels: Array | None, interval: tuple[float, float], *, sure: bool
) -> Diagnostic:
    count = len(now.probabilities)
    present = now.encoding.title if sure else f"{now.encoding.title.partition(', ')[2]} (as the values look)"
    change = f"encode pixels as {other.encoding.title}"
    if labels is not None:
        before, after = _score(now, labels), _score(other, labels)
        text = (
            f"the preprocessing does not fit the model: top-1 is {before:.3f} with {present}, {after:.3f} with "
            f"{other.encoding.title} (n={count}; 95 % interval of the gain {interval[0]:+.3f} to {interval[1]:+.3f})"
        )
    else:
        text = (
            f"the preprocessing probably does not fit the model: with {other.encoding.title} instead of {present} its "
            f"answers tell {interval[0]:.2f} to {interval[1]:.2f} nats more (n={count}, no labels)"
        )
    return Diagnostic("warning", text, hint=f"{change}: {_how(other.encoding)}")


def _how(encoding: Encoding) -> str:
    """Return the encoding as a recipe's keys."""
    mean, std = (v[::-1] if encoding.bgr else v for v in (encoding.mean, encoding.std))
    numbers = [", ".join(f"{value:.6g}" for value in values) for values in (mean, std)]
    return f'color = "{"BGR" if encoding.bgr else "RGB"}", scale = 1.0, mean = [{numbers[0]}], std = [{numbers[1]}]'
