"""Compares a compiled model with the fp32 model: golden vectors, closeness without labels, accuracy with labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.stage import stage
from edgepack.data.samples import read_labels, read_samples
from edgepack.device.host import host_facts
from edgepack.engines import get_backend
from edgepack.specs import (
    Accuracy,
    Array,
    CompiledModel,
    Progress,
    RunOptions,
    SampleSet,
    Verification,
    no_progress,
)
from edgepack.verify import metrics
from edgepack.verify.closeness import Closeness, ClosenessSums
from edgepack.verify.distance import distances
from edgepack.verify.golden import read_golden
from edgepack.verify.outputs import OutputReader, OutputWriter, StoredOutputs
from edgepack.verify.user_metric import user_metric

METRICS = ("top1", "top5", "agreement", "sqnr", "cosine")


@dataclass(frozen=True)
class Evaluation:
    """All that was measured of one compiled model; ``accuracy`` is None with the reason beside it."""

    verification: Verification
    accuracy: Accuracy | None
    accuracy_reason: str | None
    closeness: Closeness


def _engine_here(compiled: CompiledModel, *_others: object) -> Mapping[str, str]:
    """Return the versions of the engine that runs ``compiled`` on this machine, whatever it was compiled with."""
    return get_backend(compiled.backend).versions()


@stage("verify", host="numbers", depends=_engine_here)
def evaluate(
    compiled: CompiledModel,
    golden: Path,
    reference: StoredOutputs,
    samples: SampleSet,
    metric: str,
    code: Path | None,  # noqa: ARG001
    seed: int,
    options: RunOptions,
    out: Path,
    progress: Progress = no_progress,
) -> Evaluation:
    """Run ``compiled`` on the golden vectors and on every sample, and compare with the fp32 outputs.

    ``code`` is what ``user_metric_code`` returned of a metric of the user, so that another code of it counts.
    ``metric`` is one of ``METRICS`` or the user's ``module:function(outputs, labels) -> float``. Raises ``DataError``
    when the metric does not fit the model's outputs or the labels.
    """
    runner = get_backend(compiled.backend).load_model(compiled, options)
    try:
        verification = _verify(compiled, golden, runner.infer)
        expected = OutputReader(reference)
        sums = ClosenessSums(reference.names)
        with OutputWriter(out, reference.names) as writer:
            for i, feeds in enumerate(read_samples(samples, compiled.inputs)):
                outputs = runner.infer(feeds)
                sums.add(expected.sample(i), outputs)
                writer.add(outputs)
                progress(f"verify {compiled.backend} {compiled.precision}", i + 1, len(samples.indices))
            stored = writer.finish()
    finally:
        runner.close()
    closeness = sums.result(seed)
    accuracy, reason = _accuracy(metric, closeness, expected, OutputReader(stored), reference.names, samples, seed)
    _discard(stored)
    return Evaluation(verification, accuracy, reason, closeness)


def _discard(stored: StoredOutputs) -> None:
    """The compared outputs are only needed for the metric; the figures are what is kept."""
    for i in range(len(stored.names)):
        (stored.folder / f"{i}.bin").unlink()
    stored.index.unlink()


def _verify(compiled: CompiledModel, golden: Path, infer: object) -> Verification:
    vectors = read_golden(golden)
    outputs: list[Mapping[str, Array]] = []
    assert callable(infer)
    for feeds in vectors.inputs:
        answer = infer(feeds)
        outputs.append({name: value.copy() for name, value in answer.items()})
    found = distances(vectors.outputs, outputs, vectors.tolerance)
    host = host_facts()
    return Verification(
        passed=all(o.passed for o in found),
        outputs=found,
        samples=len(vectors.inputs),
        engine=compiled.backend,
        versions=compiled.versions,
        isa=host.isa,
    )


def _accuracy(
    metric: str,
    closeness: Closeness,
    expected: OutputReader,
    found: OutputReader,
    names: tuple[str, ...],
    samples: SampleSet,
    seed: int,
) -> tuple[Accuracy | None, str | None]:
    if metric == "sqnr":
        return None, "sqnr is a ratio in dB and has no drop; see sqnr_db"
    if metric == "cosine":
        low, high = closeness.cosine_ci95 or (closeness.cosine, closeness.cosine)
        value = closeness.cosine
        return Accuracy("cosine", closeness.n, 1.0, value, 1 - value, (1 - high, 1 - low)), None
    if metric == "agreement":
        if closeness.agreement is None or closeness.agreement_ci95 is None:
            return None, "agreement needs an output of class scores [batch, classes]; this model has none"
        low, high = closeness.agreement_ci95
        value = closeness.agreement
        return Accuracy("agreement", closeness.n, 1.0, value, 1 - value, (1 - high, 1 - low)), None
    if not samples.labelled:
        return None, "no labels were given: accuracy was not measured"
    labels = read_labels(samples)
    if metric in ("top1", "top5"):
        return _top_k(metric, expected.whole(names[0]), found.whole(names[0]), labels), None
    return user_metric(metric, expected, found, names, labels, seed), None


def _top_k(metric: str, fp32: Array, scores: Array, labels: Array) -> Accuracy:
    from edgepack.errors import DataError

    if fp32.ndim != 2 or fp32.shape[1] < 2 or len(fp32) != len(labels):
        raise DataError(
            f"{metric} needs a first output of class scores [n, classes] for {len(labels)} labels; it is {fp32.shape}",
            hint="choose --metric agreement, sqnr, cosine, or your own module:function(outputs, labels)",
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or labels.min() < 0 or labels.max() >= fp32.shape[1]:
        raise DataError(
            f"{metric} needs whole-number labels from 0 to {fp32.shape[1] - 1}; they are {labels.dtype} "
            f"from {labels.min()} to {labels.max()}",
            hint="the class folders or labels must be in the order of the model's classes",
        )
    k = 1 if metric == "top1" else min(5, fp32.shape[1])
    before, after = metrics.top_k_correct(fp32, labels, k), metrics.top_k_correct(scores, labels, k)
    ci95 = metrics.paired_difference_ci95(before, after)
    first, second = float(before.mean()), float(after.mean())
    return Accuracy(metric, len(labels), first, second, first - second, ci95)
