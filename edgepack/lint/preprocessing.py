"""Judges whether the samples' normalisation and order of channels fit the model, by trying the usual alternatives."""

from __future__ import annotations

import numpy as np

from edgepack.base.intervals import mean_ci95, paired_difference_ci95, proportion_ci95
from edgepack.lint import Found, Inspected, Surveyed
from edgepack.lint.encodings import Encoding, encoding_of, guess_encoding
from edgepack.lint.survey import picture_input
from edgepack.lint.trials import Trial, Trials, recipe_keys, try_encodings, try_one
from edgepack.specs.data import Finding
from edgepack.specs.types import Array

# With labels: an error rate of 5 % for all alternatives together, and a gain that is worth a word.
_ERROR, _LEAST_GAIN = 0.05, 0.02
_FAR = 0.1  # what an accuracy must lack to say nothing of the model
# Without: the wrong encodings of EfficientNet-Lite0 and ResNet20 lose 5 % to 40 % of sharpness, but for those that cost
# hardly any answer.
_LEAST_SHARPER = 1.04
_FEWEST, _FEWEST_CLASSES = 12, 4
_SHOWN = 4
_MOSTLY = 0.75
# A model that gives so many samples one answer does not tell them apart, and what makes its answers clearer means
# nothing: of 16 networks with random weights 6 seemed to ask for another encoding, and 2 of them varied their answers.
_ALWAYS = 0.9


def check(inspected: Inspected) -> Found:
    """Return how well the model answers with the usual encodings, and a warning when another one is better.

    The calibration samples are judged, or those for evaluation when only these have labels: both are encoded alike.
    With labels an answer is right or wrong, and "better" is a sign test on the samples that only one of two encodings
    gets right, divided by the number of alternatives (Bonferroni). Without labels, or with too few, what counts is
    ``trials.sharpness``, and the warning says "probably".
    """
    judged = _judged(inspected)
    spec, present = picture_input(inspected.model), _present(judged)
    if spec is None or present is None or not can_judge(inspected):
        return Found()
    samples, what, labels = judged.samples, judged.title, judged.labels
    trials = try_encodings(inspected.model, spec, samples, present, labels, inspected.progress)
    found = [_table(trials, what)]
    best = trials.others[0]
    if labels is None and best.share >= _ALWAYS:
        same = [_tells_nothing(trials.present, best, what)] if trials.present.share >= _ALWAYS else []
        return Found((*found, *same), trials.model_runs)
    without_looking = _without_looking(labels)
    if len(best.sharpness) == len(trials.present.sharpness):
        found += _judge(trials, best, without_looking, what, sure=samples.preprocessing is not None)
    if labels is not None and len(found) == 1:
        found += _judge_labels(trials.present, without_looking, what)
    return Found(tuple(found), trials.model_runs)


def answers_right(inspected: Inspected) -> bool:
    """Say whether most classes of a few labelled samples are right as they are, where encodings can be tried."""
    judged, spec = inspected.calibration, picture_input(inspected.model)
    present = _present(judged)
    if judged.labels is None or spec is None or present is None or not can_judge(inspected):
        return False
    trial = try_one(inspected.model, spec, judged.samples, present, judged.labels, _FEWEST)
    return trial.score[0] >= _MOSTLY


def can_judge(inspected: Inspected) -> bool:
    """Say whether encodings can be tried: not on models that do not classify colour pictures, nor on a few samples.

    Nor where the samples' own encoding cannot be told.
    """
    judged = _judged(inspected)
    outputs = inspected.model.outputs[0].shape
    classes = outputs[1] if len(outputs) == 2 and isinstance(outputs[1], int) else 0
    enough = len(judged.samples.indices) >= _FEWEST
    enough = enough and classes >= (2 if judged.labels is not None else _FEWEST_CLASSES)
    return enough and picture_input(inspected.model) is not None and _present(judged) is not None


def _judged(inspected: Inspected) -> Surveyed:
    other = inspected.evaluation
    only_other = inspected.calibration.labels is None and other is not None and other.labels is not None
    return other if only_other and other is not None else inspected.calibration


def _present(judged: Surveyed) -> Encoding | None:
    made, survey = judged.samples.preprocessing, judged.survey
    if made is not None:
        return encoding_of(made) if made.color != "L" and made.dtype == "float32" else None
    if len(survey.channels) != 1 or len(survey.channels[0].minima) != 3:
        return None
    return guess_encoding(survey.channels[0].minima, survey.channels[0].maxima)


def _tells_nothing(now: Trial, other: Trial, what: str) -> Finding:
    text = (
        f"the model gives the same answer to {100 * now.share:.0f} % of the {what} (n={len(now.classes)}), and with "
        f"{other.encoding.title}, which seems to fit best, to {100 * other.share:.0f} %: whether the preprocessing "
        "fits cannot be told"
    )
    hint = "check that the model is trained and its weights are loaded, or give samples of several classes"
    return Finding("preprocessing", "warning", text, hint)


def _judge(trials: Trials, other: Trial, without_looking: float, what: str, *, sure: bool) -> list[Finding]:
    """Return a warning when ``other`` is better: measured where labels prove it, else probable by its sharpness."""
    now, count = trials.present, len(trials.present.sharpness)
    present = now.encoding.title if sure else f"{now.encoding.title.partition(', ')[2]} (as the values look)"
    hint = f"encode pixels as {other.encoding.title}: {recipe_keys(other.encoding)}"
    accuracies = ""
    if now.right is not None and other.right is not None:
        before, after = float(now.right.mean()), float(other.right.mean())
        # What is no better than always giving the same answer is not a preprocessing that fits.
        usable = proportion_ci95(int(other.right.sum()), count)[0] > without_looking
        if not usable or after - before < _LEAST_GAIN:
            return []
        low, high = paired_difference_ci95(other.right, now.right)
        accuracies = (
            f"top-1 is {before:.3f} with {present}, {after:.3f} with {other.encoding.title} ({what}, n={count}; 95 % "
            f"interval of the gain {low:+.3f} to {high:+.3f})"
        )
        if _sign_test(other.right, now.right) <= _ERROR / len(trials.others):
            text = f"the preprocessing does not fit the model: {accuracies}"
            return [Finding("preprocessing", "warning", text, hint, proven=after - before >= _FAR)]
    interval = mean_ci95(other.sharpness - now.sharpness)
    if interval is None or interval[0] <= 0 or other.score[1] < _LEAST_SHARPER * now.score[1]:
        return []
    reason = accuracies or (
        f"its best answer stands out from the others by {now.score[1]:.2f} standard deviations with {present}, by "
        f"{other.score[1]:.2f} with {other.encoding.title} ({what}, n={count}, no labels; 95 % interval of the gain "
        f"{interval[0]:+.2f} to {interval[1]:+.2f})"
    )
    return [Finding("preprocessing", "warning", f"the preprocessing probably does not fit the model: {reason}", hint)]


def _judge_labels(now: Trial, without_looking: float, what: str) -> list[Finding]:
    """Return a warning when the model gets surely less right than it would without looking."""
    assert now.right is not None
    count = len(now.right)
    if proportion_ci95(int(now.right.sum()), count)[1] >= without_looking:
        return []
    text = (
        f"the labels do not fit the model: top-1 is {now.score[0]:.3f} ({what}, n={count}), hardly better with other "
        f"encodings"
    )
    hint = "check that the labels are in the order of the model's outputs: class folders count from 0 by their names"
    return [Finding("labels", "warning", text, hint, proven=True)]


def _without_looking(labels: Array | None) -> float:
    """Return the accuracy of always answering with the most frequent label; at most a half, lest one class rule."""
    if labels is None:
        return 0.0
    return min(float(np.unique(labels, return_counts=True)[1].max()) / len(labels), 0.5)


def _sign_test(first: Array, second: Array) -> float:
    """Return how probable it is by chance that ``first`` is right where ``second`` is wrong this often (one-sided)."""
    from scipy.special import bdtrc

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return float(bdtrc(only_first - 1, only_first + only_second, 0.5)) if only_first > 0 else 1.0


def _table(trials: Trials, what: str) -> Finding:
    now = trials.present
    kind = "top-1 accuracy" if now.right is not None else "how far the best answer stands out, in standard deviations,"
    words = [f"{_figure(now)} now, with {now.encoding.title}"]
    words += [f"{_figure(trial)} with {trial.encoding.title}" for trial in trials.others[:_SHOWN]]
    return Finding("preprocessing", "note", f"{kind} of the {what}: " + "; ".join(words))


def _figure(trial: Trial) -> str:
    value = f"{trial.score[0]:.3f}" if trial.right is not None else f"{trial.score[1]:.2f}"
    return f"{value} (n={len(trial.sharpness)})"
