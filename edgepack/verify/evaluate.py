"""Compares a compiled model with the fp32 model: golden vectors, closeness without labels, accuracy with labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.base.stage import stage
from edgepack.data.samples import read_any_labels, read_labels, read_samples
from edgepack.engines import get_backend
from edgepack.specs.changes import Changes
from edgepack.specs.data import SampleSet
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import Accuracy, ChangedAnswers, OutputDistance, RunOptions, Verification
from edgepack.specs.types import Precision, Progress, no_progress
from edgepack.verify.answering import Answering
from edgepack.verify.answers import check_metric_fits
from edgepack.verify.change import measure_change
from edgepack.verify.closeness import Closeness, ClosenessSums
from edgepack.verify.golden import (
    Golden,
    batch_to_load,
    read_golden,
    run_batches,
    run_golden,
    with_policy,
)
from edgepack.verify.means import sample_means
from edgepack.verify.metrics import Compared, Metric, find_metric
from edgepack.verify.outputs import OutputReader, OutputWriter, StoredOutputs
from edgepack.verify.parts import NO_BALANCE, Balance, PartEnergies, balance, read_bounded, read_parts
from edgepack.verify.spans import Span, SpanSums
from edgepack.verify.tolerance import STEPS, widest


@dataclass(frozen=True)
class Evaluation:
    """All that was measured of one compiled model; ``accuracy`` and ``change`` are None with the reason beside them.

    ``changes`` says which answers are others than fp32's, None where that is not told. ``suspect`` says why the
    accuracy of fp32 itself is not to be believed, as where labels are those of other classes. ``spans`` says how
    fp32's outputs vary over all samples; those that are ``nearly_zero`` in all do not count in the balance.
    """

    verification: Verification
    accuracy: Accuracy | None
    accuracy_reason: str | None
    closeness: Closeness
    suspect: str | None = None
    balance: Balance = NO_BALANCE
    change: ChangedAnswers | None = None
    change_reason: str | None = None
    changes: Changes | None = None
    spans: tuple[Span, ...] = ()
    nearly_zero: tuple[str, ...] = ()

    @property
    def judged_sqnr_db(self) -> float | None:
        """Return the SQNR that a model is judged by: the balanced one, or the worst output's where that alone is."""
        return self.closeness.sqnr_db if self.balance.sqnr_db is None else self.balance.sqnr_db


def _engine_here(compiled: CompiledModel, *_others: object) -> Mapping[str, str]:
    """Return the versions of the engine that runs ``compiled`` on this machine, whatever it was compiled with."""
    return get_backend(compiled.backend).versions()


@stage("verify", host="numbers", depends=_engine_here, loads=("scipy.special",))
def evaluate(
    compiled: CompiledModel,
    golden: Path,
    reference: StoredOutputs,
    parts: Path | None,
    samples: SampleSet,
    metric: str,
    code: Path | None,  # noqa: ARG001
    seed: int,
    options: RunOptions,
    out: Path,
    progress: Progress = no_progress,
) -> Evaluation:
    """Run ``compiled`` on the golden vectors and on every sample, and compare with the fp32 outputs.

    ``parts`` is a file with the parts of the outputs (``parts.py``), None where each is one. ``code`` is what
    ``user_metric_code`` returned of a metric of the user, so that another code of it counts. ``metric`` is one of
    ``METRICS`` or the user's ``module:function(outputs, labels) -> float``. Raises ``DataError`` when the metric does
    not fit the model's outputs or the labels, ``ConfigError`` for a metric that is not known.
    """
    record = find_metric(metric)
    engine = Answering(compiled, options)
    try:
        bounded = read_bounded(parts) if parts is not None else frozenset()
        vectors = with_policy(read_golden(golden), compiled.precision, bounded)
        verification = run_golden(engine.infer, vectors, compiled.inputs, compiled.backend, compiled.versions)
        expected = OutputReader(reference)
        sums = ClosenessSums(reference.names)
        total = len(samples.indices)
        means = sample_means(reference.names, map(expected.sample, range(total)))
        energies = PartEnergies(reference.names, read_parts(parts) if parts is not None else {}, means)
        seen = SpanSums(reference.names)
        with (
            OutputWriter(out, reference.names) as writer,
            closing(engine.answers(read_samples(samples, compiled.inputs), total)) as answers,
        ):
            for i, outputs in enumerate(answers):
                exact = expected.sample(i)
                sums.add(exact, outputs)
                energies.add(exact, outputs)
                seen.add(exact, outputs)
                writer.add(outputs)
                progress(f"verify {compiled.backend} {compiled.precision}", i + 1, total)
            stored = writer.finish()
    finally:
        engine.close()
    verification = _with_fixed_batch(verification, compiled, vectors, options)
    verification = _with_decisions(verification, sums.decisions(), compiled.precision, total)
    closeness = sums.result(seed)
    accuracy, reason, suspect = _accuracy(
        record, metric, closeness, expected, OutputReader(stored), reference.names, samples, seed
    )
    quantized = compiled.precision != "fp32"
    change, changes = measure_change(samples, expected, OutputReader(stored), closeness, seed, examples=quantized)
    _discard(stored)
    changed, why = (None, change) if isinstance(change, str) else (change, None)
    spans = seen.result()
    silent = _nearly_zero(spans, vectors)
    balanced = balance(energies.energies(silent), seed)
    return Evaluation(
        verification, accuracy, reason, closeness, suspect, balanced, changed, why, changes, spans, tuple(silent)
    )


def _nearly_zero(spans: tuple[Span, ...], vectors: Golden) -> list[str]:
    """Return the outputs whose fp32 values are nearly zero in all samples and that differ by no more than they may."""
    within = {name: allowed.zero_within for name, allowed in (vectors.tolerance or {}).items()}
    return [
        span.name for span in spans if span.nearly_zero(within[span.name]) and span.max_abs <= STEPS * within[span.name]
    ]


def _with_fixed_batch(
    verification: Verification, compiled: CompiledModel, vectors: Golden, options: RunOptions
) -> Verification:
    """Return what is found too when the engine is loaded for the golden batch, as a benchmark of a batch loads it."""
    size = batch_to_load(vectors, compiled.inputs, compiled.backend)
    if size is None or options.fixed_batch is not None:
        return verification
    runner = get_backend(compiled.backend).load_model(compiled, dataclasses.replace(options, fixed_batch=size))
    try:
        found, _ = run_batches(runner.infer, vectors, compiled.inputs, f"loaded for {size}")
    finally:
        runner.close()
    outputs = (*verification.outputs, *found)
    return dataclasses.replace(verification, passed=all(output.passed for output in outputs), outputs=outputs)


def _with_decisions(
    verification: Verification, counts: Mapping[str, tuple[int, int]], precision: Precision, samples: int
) -> Verification:
    """Return what fails too where more decisions differ over all samples than may: golden vectors hold few of them."""
    wrong = []
    for name, (differing, total) in counts.items():
        most = widest(precision, total).mismatch
        if total and differing / total > most:
            note = f"over all {samples} samples {differing} of {total} values differ, {100 * most:.4g} % may"
            wrong.append(
                OutputDistance(
                    name, None, 0.0, 0.0, None, passed=False, mismatch=differing / total, note=note,
                    tolerance_mismatch=most,
                )
            )  # fmt: skip
    if not wrong:
        return verification
    return dataclasses.replace(verification, passed=False, outputs=(*verification.outputs, *wrong))


def _discard(stored: StoredOutputs) -> None:
    """The compared outputs are only needed for the metric; the figures are what is kept."""
    for i in range(len(stored.names)):
        (stored.folder / f"{i}.bin").unlink()
    stored.index.unlink()


def _accuracy(
    record: Metric,
    metric: str,
    closeness: Closeness,
    expected: OutputReader,
    found: OutputReader,
    names: tuple[str, ...],
    samples: SampleSet,
    seed: int,
) -> tuple[Accuracy | None, str | None, str | None]:
    """Return the accuracy, or the reason why there is none, and why it is not to be believed."""
    if record.needs_labels and not samples.labelled:
        return None, "no labels were given: accuracy was not measured", None
    reads = record.needs_labels or (record.uses_labels and samples.labelled)
    labels: Any = read_labels(samples) if reads and not record.of_answers else None
    if record.of_answers:
        check_metric_fits(metric, samples.task)
        labels = read_any_labels(samples) if samples.labelled else None
    compared = Compared(metric, closeness, expected, found, names, labels, seed, samples)
    answer = record.measure(compared)
    if isinstance(answer, str):
        return None, answer, None
    if labels is None and (record.uses_labels or record.of_answers):
        answer = dataclasses.replace(answer, truth="fp32")
    return answer, None, record.doubt(compared, answer) if record.doubt is not None else None
