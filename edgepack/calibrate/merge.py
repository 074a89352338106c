"""Statistics as a document, so that samples of several machines make one calibration without leaving their place.

Minima, maxima and counts do not depend on the order or the grouping of samples, so what is merged is bit for bit what
one machine would have measured over all of them.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base import documents
from edgepack.base.files import read_regular, sha256_json
from edgepack.base.stage import stage
from edgepack.calibrate.histogram import CODES, PAGE, Counts, finite_codes, within
from edgepack.calibrate.observers import OBSERVERS, choose_range, observers_of_statistics
from edgepack.calibrate.statistics import Statistics
from edgepack.errors import ConfigError, DataError
from edgepack.specs.calibration import Plan
from edgepack.specs.data import Ranges, SampleSet, SampleStatistics, TensorStatistics
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    import onnx

FORMAT = 1
LIMIT_BYTES = 1 << 30
_PAGES = CODES // PAGE
_ROW_BYTES = 8 * (1 + PAGE)  # a page's number and its counts
_MOST_COUNTED = 1 << 62
_LARGEST = float(np.finfo(np.float32).max)


@stage("statistics")
def measure_statistics(
    model: OnnxModel, samples: SampleSet, out: Path, progress: Progress = no_progress
) -> SampleStatistics:
    """Return what is counted of the model's float32 activations over ``samples``, for every observer.

    ``out`` keeps a checkpoint as in ``calibrate``. Raises what ``calibrate`` raises.
    """
    from edgepack.calibrate.tensors import make_plan, read_structure

    structure = read_structure(model)
    return count(model, structure, make_plan(structure), samples, out, progress)


def count(
    model: OnnxModel,
    structure: onnx.ModelProto | None,
    plan: Plan,
    samples: SampleSet,
    out: Path,
    progress: Progress = no_progress,
) -> SampleStatistics:
    """Return what is counted of the tensors of ``plan``, as ``measure_statistics`` does.

    ``structure`` is as ``instrument.open_session`` takes it; without it the package onnx is not needed.
    """
    from edgepack.calibrate import all_statistics, tools

    if not samples.indices:
        raise DataError("no samples to count", hint="give at least one; a few hundred are typical")
    found = all_statistics(model, structure, plan, samples, True, out, progress)
    return SampleStatistics(
        format=FORMAT,
        model_sha256=model.sha256,
        data_sha256=(samples.sha256,),
        samples=len(samples.indices),
        tensors={name: _encode(one) for name, one in sorted(found.items())},
        tools=tools(),
    )


def read_statistics(path: Path) -> SampleStatistics:
    """Return the document in a file. Raises ``ConfigError`` for anything else, ``DataError`` for damaged counts."""
    try:
        text = read_regular(path, LIMIT_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="check the path") from None
    found = documents.from_json(SampleStatistics, text, str(path))
    if found.format != FORMAT:
        raise ConfigError(
            f"{path} has format {found.format}; this edgepack reads {FORMAT}", hint="pip install --upgrade edgepack"
        )
    if found.samples < 1 or not found.data_sha256:
        raise DataError(f"{path} counts no samples", hint="measure it again with 'edgepack calibrate --statistics'")
    for name, one in found.tensors.items():
        _decode(one, f"{path}: {name}")
    return found


def merge(parts: Sequence[SampleStatistics]) -> SampleStatistics:
    """Return the statistics of all samples of ``parts``, in whatever order they come.

    Raises ``DataError`` for parts of different models and for samples that two parts have counted.
    """
    models = {part.model_sha256 for part in parts}
    if len(models) != 1:
        raise DataError(
            f"the statistics are of {len(models)} models", hint="merge only what one and the same ONNX file measured"
        )
    data = [digest for part in parts for digest in part.data_sha256]
    if len(set(data)) != len(data):
        raise DataError("some samples are in two of the documents", hint="give every document once")
    names = sorted({name for part in parts for name in part.tensors})
    if lacking := [name for name in names if any(name not in part.tensors for part in parts)]:
        raise DataError(f"not every document has counted {lacking[0]!r}", hint="measure them with one edgepack version")
    versions: dict[str, set[str]] = {}
    for part in parts:
        for tool, version in part.tools.items():
            versions.setdefault(tool, set()).update(version.split(", "))
    return SampleStatistics(
        format=FORMAT,
        model_sha256=models.pop(),
        data_sha256=tuple(sorted(data)),
        samples=sum(part.samples for part in parts),
        tensors={name: _encode(_sum(part.tensors[name] for part in parts)) for name in names},
        tools={tool: ", ".join(sorted(found)) for tool, found in sorted(versions.items())},
    )


def choose_from(statistics: SampleStatistics, observer: str, percentile: float) -> Ranges:
    """Return the ranges that ``observer`` chooses from statistics alone.

    Raises ``ConfigError`` for one that tries ranges on samples, which are not here.
    """
    from edgepack.data.recipes import check_percentile

    chosen = OBSERVERS.get(observer)
    if chosen.among:
        raise ConfigError(
            f"the observer {observer} tries ranges on samples, and statistics have none",
            hint=f"use --observer {' or '.join(observers_of_statistics())}",
        )
    check_percentile(percentile, "calibrate")
    found = {name: _decode(one, name) for name, one in statistics.tensors.items()}
    data = statistics.data_sha256
    return Ranges(
        model_sha256=statistics.model_sha256,
        data_sha256=data[0] if len(data) == 1 else sha256_json(list(data)),
        observer=observer,
        percentile=percentile if "percentile" in chosen.parameters else None,
        samples=statistics.samples,
        tensors={name: choose_range(chosen, one, percentile) for name, one in found.items() if one.is_usable},
        tools=statistics.tools,
    )


def _sum(parts: Iterable[TensorStatistics]) -> Statistics:
    result, counts, total = Statistics(), Counts(), 0.0
    for part in parts:
        minimum, maximum = _extremes(part, "statistics")
        result.minimum, result.maximum = min(result.minimum, minimum), max(result.maximum, maximum)
        for page, counted in _read_counts(part.counts, "statistics").pages.items():
            known = counts.pages.get(page)
            counts.pages[page] = counted if known is None else known + counted
            total += float(counted.sum())
        if total > _MOST_COUNTED:
            raise DataError("the statistics count more values than can be added", hint="measure them again")
    result.counts = counts
    return result


def _encode(found: Statistics) -> TensorStatistics:
    """Infinities, which JSON has not, are told in words: a tensor without values, and one that holds infinities."""
    pages = sorted(found.counts.pages.items()) if found.counts is not None else []
    rows = np.array([[page, *counted] for page, counted in pages], "<i8")
    counts = base64.b64encode(zlib.compress(rows.tobytes(), 6)).decode("ascii")
    if found.minimum > found.maximum:
        return TensorStatistics("empty", 0.0, 0.0, counts)
    if not found.is_usable:
        return TensorStatistics("infinite", 0.0, 0.0, counts)
    return TensorStatistics("finite", found.minimum, found.maximum, counts)


def _decode(found: TensorStatistics, where: str) -> Statistics:
    """Return the statistics. Raises ``DataError`` for counts of values beyond the extremes."""
    minimum, maximum = _extremes(found, where)
    counts = _read_counts(found.counts, where)
    # What holds infinities somewhere is counted over the samples without them.
    if (found.values == "empty" and counts.pages) or (
        found.values == "finite" and not within(counts, minimum, maximum)
    ):
        raise DataError(f"{where}: values beyond its extremes are counted", hint="measure it again")
    return Statistics(minimum, maximum, counts)


def _extremes(found: TensorStatistics, where: str) -> tuple[float, float]:
    extremes: Mapping[str, tuple[float, float]] = {
        "empty": (math.inf, -math.inf),
        "infinite": (-math.inf, math.inf),
        "finite": (found.minimum, found.maximum),
    }
    minimum, maximum = extremes[found.values]
    if found.values == "finite" and not -_LARGEST <= minimum <= maximum <= _LARGEST:
        raise DataError(f"{where}: its values reach from {minimum} to {maximum}", hint="measure it again")
    return minimum, maximum


def _read_counts(text: str, where: str) -> Counts:
    damaged = DataError(f"{where}: its counts are damaged", hint="copy the file again, or measure it again")
    try:
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(text, validate=True), _PAGES * _ROW_BYTES)
    except (binascii.Error, ValueError, zlib.error):
        raise damaged from None
    if len(data) % _ROW_BYTES or not inflate.eof:
        raise damaged
    rows = np.frombuffer(data, "<i8").reshape(-1, 1 + PAGE).astype(np.int64)
    pages, counted = rows[:, 0], rows[:, 1:]
    whole = np.array_equal(pages, np.unique(pages)) and ((pages >= 0) & (pages < _PAGES)).all()
    if not whole or counted.min(initial=0) < 0 or float(counted.sum(dtype=np.float64)) > _MOST_COUNTED:
        raise damaged
    if counted[~finite_codes().reshape(_PAGES, PAGE)[pages]].any():
        raise damaged
    result = Counts()
    result.pages = {int(page): counts for page, counts in zip(pages, counted, strict=True)}
    return result
