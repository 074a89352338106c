"""Runs the samples through the model and accumulates the statistics of its tensors.

One sample at a time: measured on 2 cores (Xeon with AVX512, ONNX Runtime 1.31), batches of 4 and 16 took as much CPU
a sample or more for EfficientNet-Lite0 and ResNet20, since activations leave the cache before they are reduced; and
a sample's numbers then never depend on its neighbours. Several samples are under way instead, each on its own thread:
threads inside one run cost a third more CPU time for the same wall time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.parallel import usable_cores
from edgepack.calibrate.instrument import first_line, open_session, reduced_names
from edgepack.calibrate.statistics import Extremes, Statistics, extremes_of
from edgepack.data.samples import read_samples, sample_names
from edgepack.errors import DataError
from edgepack.specs.types import Array

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from edgepack.calibrate.checkpoint import Checkpoint
    from edgepack.specs.data import SampleSet
    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Progress

CHECKPOINT_S = 5.0
# Values of the samples under way; their activations inside the engine come on top.
_BYTES_AT_ONCE = 128 << 20
# numpy counts under the interpreter's lock, so on one core, while the engine runs the next sample.
_COUNTING_WORKERS = 2


@dataclass(frozen=True)
class Job:
    """What to measure: ``inputs`` from the samples, ``measured`` from the engine; ``size_bytes``: a sample of it.

    ``structure`` is the model's, as ``instrument.open_session`` takes it.
    """

    model: OnnxModel
    structure: onnx.ModelProto | None
    samples: SampleSet
    inputs: tuple[str, ...]
    measured: tuple[str, ...]
    size_bytes: int
    histogram: bool


def measure(job: Job, checkpoint: Checkpoint, scratch: Path, progress: Progress) -> dict[str, Statistics]:
    """Return the statistics of the job's tensors over all its samples, going on from the checkpoint's.

    ``progress`` is called with the samples done. Memory does not grow with the number of samples. Raises ``DataError``
    naming the tensor and the sample where a value is NaN.
    """
    done, statistics = checkpoint.load(job.histogram)
    total = len(job.samples.indices)
    if done >= total:
        return statistics
    cores = usable_cores()
    most = min(cores, _COUNTING_WORKERS) if job.histogram else cores
    workers = max(1, min(most, _BYTES_AT_ONCE // max(job.size_bytes, 1)))
    observer = _Observer(job, statistics, max(1, cores // workers), scratch)
    names = sample_names(job.samples)
    saved_at = time.monotonic()
    progress("calibrate", done, total)
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[None]] = deque()
        started = done
        try:
            for feed in read_samples(job.samples, job.model.inputs, start=done):
                running.append(pool.submit(observer.observe, feed, names[started]))
                started += 1
                if len(running) > workers:
                    running.popleft().result()
                    done += 1
                    progress("calibrate", done, total)
                if time.monotonic() - saved_at >= CHECKPOINT_S:
                    # Only when nothing runs is it known which samples the counts hold: the first ones, all of them.
                    done += _finish(running)
                    checkpoint.save(done, statistics)
                    saved_at = time.monotonic()
                    progress("calibrate", done, total)
            _finish(running)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    progress("calibrate", total, total)
    return statistics


def _finish(running: deque[Future[None]]) -> int:
    finished = len(running)
    while running:
        running.popleft().result()
    return finished


class _Observer:
    """Takes one sample's values into the shared statistics; called from several threads."""

    def __init__(self, job: Job, statistics: dict[str, Statistics], threads: int, scratch: Path) -> None:
        self._job = job
        self._statistics = statistics
        self._lock = threading.Lock()
        reduce = not job.histogram
        self._names = reduced_names(job.measured) if reduce else list(job.measured)
        self._session = (
            open_session(job.model, job.structure, job.measured, reduce=reduce, threads=threads, scratch=scratch)
            if job.measured
            else None
        )

    def observe(self, feed: dict[str, Array], sample: str) -> None:
        """Run the model on one sample and add what it shows; ``sample`` names it in errors."""
        for name, extremes in self._extremes(feed, sample):
            if np.isnan(extremes.minimum):
                raise DataError(
                    f"the tensor {name!r} holds NaN on {sample}",
                    hint="check the sample and its preprocessing, or repair a model that overflows in fp32",
                )
            with self._lock:
                self._statistics[name].add(extremes)

    def _extremes(self, feed: dict[str, Array], sample: str) -> Iterator[tuple[str, Extremes]]:
        for name in self._job.inputs:
            yield name, extremes_of(feed[name], self._job.histogram)
        if self._session is None:
            return
        try:
            outputs: list[Any] = self._session.run(self._names, feed)
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise DataError(
                f"ONNX Runtime cannot run the model on {sample}: {first_line(error)}",
                hint="its shape or values do not fit the model: compare it with the training data",
            ) from error
        if not self._job.histogram:
            yield from zip(self._job.measured, _reduced(outputs), strict=True)
            return
        outputs.reverse()
        for name in self._job.measured:
            yield name, extremes_of(outputs.pop(), True)  # freed as soon as it is counted


def _reduced(outputs: list[Any]) -> Iterator[Extremes]:
    """Return the extremes from the reductions; a sum shows NaN, which the engine's minima and maxima pass over."""
    values = np.array(outputs, dtype=np.float64).reshape(3, -1)
    for minimum, maximum, total in zip(*values.tolist(), strict=True):
        if np.isnan(total) and not (minimum == -np.inf and maximum == np.inf):  # whose sum is NaN too
            yield Extremes(float("nan"), float("nan"))
        else:
            yield Extremes(minimum + 0.0, maximum + 0.0)
