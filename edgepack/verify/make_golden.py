"""Makes golden vectors: runs the fp32 model on a few of the user's samples, one by one and several at once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edgepack.base.stage import stage
from edgepack.data.samples import read_samples, take_samples
from edgepack.engines import REFERENCE, get_backend
from edgepack.errors import ConfigError, DataError, EdgepackError
from edgepack.specs.data import SampleSet
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Array, Feeds, Progress, no_progress
from edgepack.verify.distance import distances
from edgepack.verify.exact_integers import compared
from edgepack.verify.golden import (
    GOLDEN,
    Golden,
    GoldenBatch,
    Infer,
    batched_inputs,
    check_reference,
    copied,
    joined,
    write_golden,
)
from edgepack.verify.reference import as_written
from edgepack.verify.tolerance import tolerance

DEFAULT_COUNT = 4
# So many samples are run at once, two if they are large: a device needs the memory for them.
BATCH = 4
_LARGE_BYTES = 1 << 20
_HUGE_BYTES = 64 << 20
# The first vector is always kept; further ones while all stay below this and below a quarter of the model.
_SMALL_BYTES = 1 << 20
_SURVEYED = 16  # so many are looked at for samples that depend on each other
_SAMPLING_SEED = 0


@stage("golden", host="numbers")
def make_golden(model: OnnxModel, samples: SampleSet, count: int, out: Path, progress: Progress = no_progress) -> Path:
    """Run the fp32 ``model`` on up to ``count`` of the samples by ONNX Runtime; return ``out/golden.npz``.

    The samples are chosen at random with a fixed seed, since a source is often sorted by class. Fewer are kept when
    they would make the bundle of a small model large. Where the batch is free, they are also run at once, in another
    order; if among 16 samples some depend on each other, four are taken that show it. Raises ``DataError`` without
    samples, ``ModelError`` when an output is not an array of numbers or has no finite value, or where the reference
    computes integers inexactly.
    """
    if count < 1:
        raise ConfigError(f"{count} golden vectors verify nothing", hint=f"ask for at least 1, as {DEFAULT_COUNT}")
    if not samples.indices:
        raise DataError(f"{samples.source} has no samples to make golden vectors of")
    chosen = take_samples(samples, min(count, len(samples.indices)), _SAMPLING_SEED)
    engine = get_backend(REFERENCE)
    runner = engine.load_model(
        _as_compiled(model, engine.versions()), as_written(model, chosen, RunOptions(threads=1))
    )  # one order of sums
    try:
        feeds = compared(model, read_samples(chosen, model.inputs))
        vectors = _run(runner.infer, feeds, max(_SMALL_BYTES, model.size_bytes // 4), len(chosen.indices), progress)
        if batched := batched_inputs(model.inputs):
            surveyed = take_samples(samples, min(_SURVEYED, len(samples.indices)), _SAMPLING_SEED + 1)
            more = compared(model, read_samples(surveyed, model.inputs))
            vectors = _with_batch(runner.infer, vectors, more, batched)
    finally:
        runner.close()
    return write_golden(vectors, out / GOLDEN)


def _run(infer: Infer, feeds: Iterator[Feeds], limit_bytes: int, count: int, progress: Progress) -> Golden:
    inputs: list[Feeds] = []
    outputs: list[Mapping[str, Array]] = []
    size = 0
    for i, feed in enumerate(feeds):
        answer = copied(infer(feed))
        check_reference(answer, f"sample {i}")
        size += sum(array.nbytes for array in (*feed.values(), *answer.values()))
        if i and size > limit_bytes:
            break
        inputs.append(feed)
        outputs.append(answer)
        progress("golden vectors", i + 1, count)
    return Golden(tuple(inputs), tuple(outputs))


def _with_batch(infer: Infer, vectors: Golden, surveyed: Iterator[Feeds], batched: frozenset[str]) -> Golden:
    """Return the vectors with a batch of them, or others that show that samples depend on each other."""
    size = _at_once(vectors)
    if not size:
        return vectors
    feeds = tuple(itertools.islice(surveyed, BATCH)) if len(vectors.inputs) >= BATCH else ()
    while len(feeds) == BATCH:  # fewer are kept where more would make the bundle large
        found = _batch_of(infer, Golden(feeds, tuple(copied(infer(feed)) for feed in feeds)), batched, size)
        if mixes_batch(found):
            return found
        feeds = tuple(itertools.islice(surveyed, BATCH))
    return _batch_of(infer, vectors, batched, size)


def _at_once(vectors: Golden) -> int:
    """Return how many samples are run at once; 0 for none."""
    largest = max(
        sum(array.nbytes for array in (*feed.values(), *answer.values()))
        for feed, answer in zip(vectors.inputs, vectors.outputs, strict=True)
    )
    return 0 if largest > _HUGE_BYTES else 2 if largest > _LARGE_BYTES else BATCH


def _batch_of(infer: Infer, vectors: Golden, batched: frozenset[str], size: int) -> Golden:
    """Run up to ``size`` samples at once, last first, those that do not fit the last left out; a single one twice.

    The vectors stay without a batch where the model takes one sample only, or several make no numbers.
    """
    last = vectors.inputs[-1]
    order = tuple(i for i in reversed(range(len(vectors.inputs))) if _fit(last, vectors.inputs[i], batched))
    order = order[:size] if len(order) > 1 else order * 2
    try:
        answer = copied(infer(joined([vectors.inputs[i] for i in order], batched)))
        check_reference(answer, f"{len(order)} samples at once")
    except EdgepackError:
        return vectors
    return dataclasses.replace(vectors, batches=(GoldenBatch(order, answer),))


def _fit(first: Feeds, second: Feeds, batched: frozenset[str]) -> bool:
    """Say whether two samples can be run at once: of one shape, and alike in what is given once for all."""
    return all(
        array.shape == second[name].shape and (name in batched or np.array_equal(array, second[name]))
        for name, array in first.items()
    )


def mixes_batch(vectors: Golden) -> bool:
    """Say whether the fp32 model's answer to samples that are run at once is another one than to each alone."""
    allowed = {name: tolerance("fp32") for name in vectors.outputs[0]}
    return any(
        not all(found.passed for found in distances([batch.outputs], [_stacked(vectors, batch)], allowed))
        for batch in vectors.batches
    )


def _stacked(vectors: Golden, batch: GoldenBatch) -> dict[str, Array]:
    parts = [vectors.outputs[i] for i in batch.samples]
    alike = {
        name for name in parts[0] if parts[0][name].ndim and len({part[name].shape[1:] for part in parts}) == 1
    }  # an output without a batch, or of a shape of its own for each sample, is no part of a whole
    return {name: np.concatenate([part[name] for part in parts]) for name in alike}


def _as_compiled(model: OnnxModel, versions: Mapping[str, str]) -> CompiledModel:
    files = (model.path.name, *model.external)
    return CompiledModel(
        backend=REFERENCE,
        precision="fp32",
        folder=model.path.parent,
        entry=model.path.name,
        files=files,
        inputs=model.inputs,
        outputs=model.outputs,
        versions=versions,
    )
