"""Golden vectors: sample inputs, the fp32 model's outputs for them, and how far a device's outputs may be from these.

``golden.npz`` holds ``input/<sample>/<name>`` and ``output/<sample>/<name>``, one array for each sample as it is fed
(samples may differ in shape); ``batch/<batch>/samples``, the numbers of samples that are also run at once, and
``batch/<batch>/output/<name>``, the fp32 model's outputs for them; and ``tolerance``, JSON text as uint8, once the
build has measured. It is read with ``zipfile`` and numpy's header reader, not ``numpy.load``, so that no array is
allocated that the file does not hold.
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
import struct
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgepack.base import documents
from edgepack.base.files import atomic_write
from edgepack.data.npy import read_header
from edgepack.device.host import host_facts
from edgepack.engines import ENGINES
from edgepack.engines.common.fixed_batch import free_batch
from edgepack.engines.common.inputs import check_feeds
from edgepack.errors import (
    BundleError,
    CompileError,
    ConfigError,
    DataError,
    EdgepackError,
    ModelError,
    VerificationError,
)
from edgepack.specs.model import TensorSpec
from edgepack.specs.run import OutputDistance, Verification
from edgepack.specs.types import Array, Feeds, Precision, Progress, no_progress
from edgepack.verify.distance import distances
from edgepack.verify.means import offsets_db
from edgepack.verify.tolerance import Tolerance, tolerance, too_wide, widest

Infer: TypeAlias = Callable[[Feeds], Mapping[str, Array]]
Outputs: TypeAlias = Mapping[str, Array]
Compare: TypeAlias = Callable[
    [Sequence[Outputs], Sequence[Outputs], Mapping[str, Tolerance] | None], tuple[OutputDistance, ...]
]

GOLDEN = "golden.npz"  # its name in a bundle

_TOLERANCE = "tolerance"
_MEMBER = re.compile(r"(input|output)/(0|[1-9][0-9]{0,5})/(.+)\.npy", re.DOTALL)
_BATCH = re.compile(r"batch/(0|[1-9][0-9]{0,2})/(?:(samples)|output/(.+))\.npy", re.DOTALL)
_KINDS = "biuf"

MOST_AT_ONCE = 16


@dataclass(frozen=True)
class GoldenBatch:
    """Samples that are run at once, by their numbers among the golden inputs, and the fp32 model's outputs for them."""

    samples: tuple[int, ...]
    outputs: Mapping[str, Array]


@dataclass(frozen=True)
class Golden:
    """Feeds and the fp32 model's outputs, one mapping a sample; ``tolerance`` is None until the build has measured.

    ``batches`` are samples that are also run at once: an engine may take another way for these.
    """

    inputs: tuple[Mapping[str, Array], ...]
    outputs: tuple[Mapping[str, Array], ...]
    tolerance: Mapping[str, Tolerance] | None = None
    batches: tuple[GoldenBatch, ...] = ()

    @property
    def elements(self) -> Mapping[str, int]:
        """Return how many values each output has over all samples."""
        return {name: sum(sample[name].size for sample in self.outputs) for name in self.outputs[0]}


@dataclass(frozen=True)
class Tolerances:
    """The JSON document in the member ``tolerance``."""

    outputs: Mapping[str, Tolerance]


def check_reference(answer: Mapping[str, Array], which: str) -> None:
    """Raise ``ModelError`` when outputs of the fp32 model are not numbers, or none of an output's values is finite."""
    for name, value in answer.items():
        if value.dtype.kind not in _KINDS:
            raise ModelError(
                f"the output {name!r} holds {value.dtype}, not numbers, and cannot be verified",
                hint="export the model without this output",
            )
        if value.size and value.dtype.kind == "f" and not np.isfinite(value).any():
            raise ModelError(
                f"the fp32 model's output {name!r} has no finite value for {which}",
                hint="check the preprocessing of the samples, or the model itself",
            )


def batched_inputs(inputs: Sequence[TensorSpec]) -> frozenset[str]:
    """Return the inputs that take several samples: those whose first extent is free.

    An extent that is also another axis, as the batch of a state [layers, batch, size], cannot be joined along it.
    """
    elsewhere = {size for spec in inputs for size in spec.shape[1:]} | {"..."}
    return frozenset(s.name for s in inputs if s.batched and s.shape[0] not in elsewhere)


def joined(feeds: Sequence[Feeds], batched: frozenset[str]) -> dict[str, Array]:
    """Return samples as one feed; an input that is not ``batched`` is the first one's."""
    return {
        name: np.concatenate([feed[name] for feed in feeds]) if name in batched else array
        for name, array in feeds[0].items()
    }


def copied(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return copies of outputs: their memory may be reused by the next call."""
    return {name: np.array(value) for name, value in outputs.items()}


def with_policy(vectors: Golden, precision: Precision, bounded: Collection[str] = ()) -> Golden:
    """Return the vectors with the widest tolerance there is, which a build must keep before it has measured.

    ``bounded`` are the outputs that stay within [-1, 1] by construction.
    """
    allowed = {
        name: widest(precision, elements, bounded=name in bounded) for name, elements in vectors.elements.items()
    }
    return dataclasses.replace(vectors, tolerance=allowed)


def with_tolerance(golden: Path, verification: Verification, precision: Precision, out: Path) -> Path:
    """Return ``out/golden.npz``: the vectors with the tolerance that the build's own measurement allows.

    ``verification`` is of the compiled model on these vectors. The policy is in ``tolerance.py``. Raises
    ``VerificationError`` when the build's own outputs do not keep it, samples that are run at once included.
    """
    vectors = read_golden(golden)
    alone = {distance.name: distance for distance in verification.outputs if distance.batch == 1}
    if missing := next((name for name in vectors.outputs[0] if name not in alone), None):
        raise ConfigError(f"the verification is not of these golden vectors: it has no output {missing!r}")
    offsets = offsets_db(vectors.outputs)
    allowed = {
        name: tolerance(precision, alone[name], elements, offsets[name]) for name, elements in vectors.elements.items()
    }
    for distance in verification.outputs:
        if problem := what_is_wrong(distance, allowed[distance.name]):
            raise wrong_output(distance, problem, precision)
    return write_golden(dataclasses.replace(vectors, tolerance=allowed), out / GOLDEN)


def refuse_wrong(verification: Verification, precision: Precision) -> None:
    """Raise ``VerificationError`` that says what differs, unless all outputs keep the tolerance they were held to."""
    for distance in verification.outputs:
        if not distance.passed:
            raise wrong_output(distance, what_is_wrong(distance) or "out of tolerance", precision)


def what_is_wrong(measured: OutputDistance, allowed: Tolerance | None = None) -> str | None:
    """Return in words what differs in an output that did not pass or is not within ``allowed``; None if it is."""
    least = allowed.sqnr_db if allowed else measured.tolerance_sqnr_db
    if measured.sqnr_db is not None and least is not None and measured.sqnr_db < least and not measured.nearly_zero:
        return f"its SQNR to the fp32 model's is {measured.sqnr_db:.1f} dB, and at least {least:.1f} dB are needed"
    if not measured.passed:
        return measured.note or "not within the tolerance"
    if allowed and measured.mismatch is not None and measured.mismatch > allowed.mismatch:
        return measured.note or f"{100 * measured.mismatch:.4g} % of its values differ"
    return None


def wrong_output(measured: OutputDistance, problem: str, precision: Precision) -> VerificationError:
    """Return the error that ends a row whose output is wrong."""
    where = f" of {measured.batch} samples at once" if measured.batch > 1 else ""
    where += f" ({measured.way})" if measured.way else ""
    hint = "the engine may compute in a lower precision than asked for, or this operator wrongly: try another engine"
    if measured.batch > 1:
        hint = "fix the batch to 1 with --shape, or use another engine"
    elif precision == "int8":
        hint = "give more calibration samples, another --observer, or a higher precision"
    return VerificationError(f"the {precision} output {measured.name!r}{where} is wrong: {problem}", hint=hint)


def run_golden(
    infer: Infer,
    vectors: Golden,
    inputs: tuple[TensorSpec, ...],
    engine: str,
    versions: Mapping[str, str],
    progress: Progress = no_progress,
    compare: Compare = distances,
) -> Verification:
    """Run every golden vector on this host by ``infer`` and compare the outputs with the fp32 model's.

    Where the model's ``inputs`` take several samples, its batches are run too, each compared by itself. An engine that
    refuses one is not wrong; the note says so.
    """
    batches = vectors.batches if batched_inputs(inputs) else ()
    total = len(vectors.inputs) + len(batches)
    outputs = []
    for i, feeds in enumerate(vectors.inputs):
        outputs.append(copied(infer(feeds)))
        progress("verify", i + 1, total)
    found, refused = run_batches(infer, vectors, inputs)
    found = (*compare(vectors.outputs, outputs, vectors.tolerance), *found)
    if batches:
        progress("verify", total, total)
    return Verification(
        passed=all(output.passed for output in found),
        outputs=found,
        samples=len(outputs),
        engine=engine,
        versions=versions,
        isa=host_facts().isa,
        note="; ".join(refused) or None,
    )


def run_batches(
    infer: Infer, vectors: Golden, inputs: tuple[TensorSpec, ...], way: str = ""
) -> tuple[tuple[OutputDistance, ...], tuple[str, ...]]:
    """Run the samples that are to be run at once; return how far each output is, and what the engine refused.

    ``way`` names how the model was loaded, where that is not as for single samples.
    """
    batched = batched_inputs(inputs)
    found: list[OutputDistance] = []
    refused = []
    for batch in vectors.batches if batched else ():
        size = len(batch.samples)
        try:
            answer = copied(infer(joined([vectors.inputs[k] for k in batch.samples], batched)))
        except (CompileError, DataError) as error:
            refused.append(f"{size} samples at once are refused: {error.message}")
        else:
            compared = distances([batch.outputs], [answer], vectors.tolerance)
            found += (dataclasses.replace(output, batch=size, way=way) for output in compared)
    return tuple(found), tuple(refused)


def batch_to_load(vectors: Golden, inputs: tuple[TensorSpec, ...], backend: str) -> int | None:
    """Return the size of the batch that an engine is also loaded for, where it is loaded for one; None where not."""
    if not ENGINES.get(backend).fixes_batch or not free_batch(inputs):
        return None
    return next((len(batch.samples) for batch in vectors.batches), None)


def check_golden(
    vectors: Golden,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    precision: Precision,
    where: str,
) -> None:
    """Refuse golden vectors that are of another model, that say nothing, or that allow more than ``precision`` may.

    Raises ``BundleError``.
    """
    if vectors.tolerance is None:
        raise BundleError(
            f"the golden vectors of {where} have no tolerances",
            hint="pack the bundle again with 'edgepack build' or 'edgepack pack'",
        )
    names = {tensor.name for tensor in inputs}, {tensor.name for tensor in outputs}
    if (set(vectors.inputs[0]), set(vectors.outputs[0])) != names:
        raise BundleError(f"the golden vectors of {where} are of a model with other inputs or outputs")
    try:
        for feeds in (*vectors.inputs, *_batch_feeds(vectors, batched_inputs(inputs))):
            check_feeds(feeds, inputs)
    except (DataError, ValueError) as error:
        words = error.message if isinstance(error, DataError) else str(error)
        raise BundleError(f"the golden vectors of {where} do not fit the model: {words}") from None
    try:
        _check_references(vectors, {tensor.name: tensor.dtype for tensor in outputs})
    except ModelError as error:
        raise BundleError(f"the golden vectors of {where} say nothing: {error.message}") from None
    for name, allowed in vectors.tolerance.items():
        if problem := too_wide(allowed, precision, vectors.elements[name]):
            raise BundleError(
                f"the golden vectors of {where} allow the output {name!r} {problem}",
                hint="the bundle was changed, or made by another version: build it again",
            )


def _batch_feeds(vectors: Golden, batched: frozenset[str]) -> Iterator[Feeds]:
    for batch in vectors.batches if batched else ():
        yield joined([vectors.inputs[i] for i in batch.samples], batched)


def _check_references(vectors: Golden, dtypes: Mapping[str, str]) -> None:
    """Raise ``ModelError`` for references that any answer would agree with, or of another type than the model's."""
    if any(not array.size for sample in vectors.inputs for array in sample.values()):
        raise ModelError("an input holds no values")
    if not any(vectors.elements.values()):
        raise ModelError("no output has a value")
    for answer in (*vectors.outputs, *(batch.outputs for batch in vectors.batches)):
        check_reference(answer, "a sample")
        for name, value in answer.items():
            if value.dtype.name != dtypes[name]:
                raise ModelError(f"the output {name!r} is {value.dtype.name}, the model's is {dtypes[name]}")


# --- the file ---------------------------------------------------------------------------------------------------------


def write_golden(vectors: Golden, path: Path) -> Path:
    """Write ``vectors``; the same values give the same bytes."""
    arrays: dict[str, Array] = {}
    for kind, samples in (("input", vectors.inputs), ("output", vectors.outputs)):
        for i, sample in enumerate(samples):
            arrays.update({f"{kind}/{i}/{name}": array for name, array in sample.items()})
    for i, batch in enumerate(vectors.batches):
        arrays[f"batch/{i}/samples"] = np.array(batch.samples, np.int64)
        arrays.update({f"batch/{i}/output/{name}": array for name, array in batch.outputs.items()})
    if vectors.tolerance is not None:
        text = documents.to_json(Tolerances(vectors.tolerance)).encode()
        arrays[_TOLERANCE] = np.frombuffer(text, np.uint8)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            info = zipfile.ZipInfo(name + ".npy")  # dated 1980-01-01
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, _npy(arrays[name]))
    return path


def _npy(array: Array) -> bytes:
    if array.dtype.kind not in _KINDS:
        raise DataError(f"golden vectors hold numbers, not {array.dtype}")
    buffer = io.BytesIO()
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    np.lib.format.write_array(buffer, little, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def read_golden(source: bytes | Path) -> Golden:
    """Return the golden vectors in a file or in its bytes. Raises ``BundleError`` when they are not well formed."""
    where = str(source) if isinstance(source, Path) else GOLDEN
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
        arrays = dict(_arrays(data))
        return _assemble(arrays)
    except OSError as error:
        raise BundleError(f"{where} cannot be read: {error}") from None
    except (zipfile.BadZipFile, struct.error, ValueError, KeyError, EOFError, RuntimeError, OverflowError) as error:
        raise BundleError(f"{where} does not hold golden vectors: {error}") from None
    except EdgepackError as error:
        raise BundleError(f"{where}: {error.message}", hint="build the bundle again") from None


def _arrays(data: bytes) -> Iterator[tuple[str, Array]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        seen: set[str] = set()
        for info in archive.infolist():
            if info.filename in seen:  # readers differ in which they take
                raise ValueError(f"{info.filename!r} is there twice")
            seen.add(info.filename)
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                raise ValueError(f"{info.filename!r} is compressed")
            yield info.filename, _array(archive.read(info), info.filename)


def _array(data: bytes, name: str) -> Array:
    """Return the array in a .npy file of version 1.0, as a read-only view of ``data``."""
    buffer = io.BytesIO(data)
    version, shape, fortran, dtype = read_header(buffer)
    if version != (1, 0):
        raise ValueError(f"{name!r} has a different version of .npy")
    if fortran or dtype.kind not in _KINDS or dtype.hasobject or dtype.names:
        raise ValueError(f"{name!r} is not a plain array of numbers")
    count = math.prod(shape)
    if count * dtype.itemsize != len(data) - buffer.tell():
        raise ValueError(f"{name!r} does not hold the shape it states")
    return np.frombuffer(data, dtype, count, buffer.tell()).reshape(shape) if count else np.zeros(shape, dtype)


def _assemble(arrays: Mapping[str, Array]) -> Golden:
    found: dict[str, dict[int, dict[str, Array]]] = {"input": {}, "output": {}, "batch": {}}
    orders: dict[int, Array] = {}
    allowed: Mapping[str, Tolerance] | None = None
    for member, array in arrays.items():
        if member == f"{_TOLERANCE}.npy":
            allowed = documents.from_json(Tolerances, array.tobytes(), _TOLERANCE).outputs
        elif match := _MEMBER.fullmatch(member):
            found[match[1]].setdefault(int(match[2]), {})[match[3]] = array
        elif (match := _BATCH.fullmatch(member)) and match[2]:
            orders[int(match[1])] = array
        elif match:
            found["batch"].setdefault(int(match[1]), {})[match[3]] = array
        else:
            raise ValueError(f"{member[:80]!r} does not belong there")
    inputs, outputs, answers = (tuple(found[kind][i] for i in sorted(found[kind])) for kind in found)
    _check_numbers(found, orders)
    for samples in (inputs, (*outputs, *answers)):
        if any(sample.keys() != samples[0].keys() for sample in samples):
            raise ValueError("the samples do not have the same names")
    if allowed is not None and allowed.keys() != outputs[0].keys():
        raise ValueError("the tolerance is not of these outputs")
    batches = tuple(GoldenBatch(_order(orders[i], len(inputs)), answer) for i, answer in enumerate(answers))
    return Golden(inputs, outputs, allowed, batches)


def _check_numbers(found: Mapping[str, Mapping[int, object]], orders: Mapping[int, object]) -> None:
    """Refuse samples and batches that do not count from 0, each with all its parts."""
    inputs = found["input"].keys()
    if not inputs or sorted(inputs) != list(range(len(inputs))) or inputs != found["output"].keys():
        raise ValueError("inputs and outputs are not of the same samples")
    if sorted(orders) != list(range(len(orders))) or orders.keys() != found["batch"].keys():
        raise ValueError("the batches do not have samples and outputs")


def _order(array: Array, count: int) -> tuple[int, ...]:
    """Return the numbers of the samples in a batch, of which there are ``count``."""
    if array.dtype != np.int64 or array.ndim != 1 or not 1 < array.size <= MOST_AT_ONCE:
        raise ValueError("a batch does not list its samples")
    if array.min() < 0 or array.max() >= count:
        raise ValueError("a batch lists samples that are not there")
    return tuple(int(i) for i in array)
