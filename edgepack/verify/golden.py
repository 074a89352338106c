"""Golden vectors: sample inputs, the fp32 model's outputs for them, and how far a device's outputs may be from these.

``golden.npz`` holds ``input/<sample>/<name>`` and ``output/<sample>/<name>``, one array for each sample as it is fed
(samples may differ in shape), and ``tolerance``, JSON text as uint8, once the build has measured. It is read with
``zipfile`` and numpy's header reader, not ``numpy.load``, so that no array is allocated that the file does not hold.
"""

from __future__ import annotations

import dataclasses
import io
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack.base import documents
from edgepack.base.files import atomic_write
from edgepack.base.stage import stage
from edgepack.device.host import host_facts
from edgepack.engines import REFERENCE, get_backend
from edgepack.engines.common.inputs import check_feeds
from edgepack.errors import BundleError, ConfigError, DataError, EdgepackError, ModelError, VerificationError
from edgepack.specs.data import SampleSet
from edgepack.specs.model import CompiledModel, OnnxModel, TensorSpec
from edgepack.specs.run import OutputDistance, RunOptions, Verification
from edgepack.specs.types import Array, Feeds, Precision, Progress, no_progress
from edgepack.verify.distance import distances
from edgepack.verify.tolerance import Tolerance, tolerance

GOLDEN = "golden.npz"  # its name in a bundle

DEFAULT_COUNT = 4
# The first vector is always kept; further ones while all stay below this and below a quarter of the model.
_SMALL_BYTES = 1 << 20

_TOLERANCE = "tolerance"
_MEMBER = re.compile(r"(input|output)/(0|[1-9][0-9]{0,5})/(.+)\.npy", re.DOTALL)
_KINDS = "biuf"
_HEADER_LIMIT = 10_000
_SAMPLING_SEED = 0


@dataclass(frozen=True)
class Golden:
    """Feeds and the fp32 model's outputs, one mapping a sample; ``tolerance`` is None until the build has measured."""

    inputs: tuple[Mapping[str, Array], ...]
    outputs: tuple[Mapping[str, Array], ...]
    tolerance: Mapping[str, Tolerance] | None = None


@dataclass(frozen=True)
class _Tolerances:
    """The JSON document in the member ``tolerance``."""

    outputs: Mapping[str, Tolerance]


@stage("golden", host="numbers")
def make_golden(model: OnnxModel, samples: SampleSet, count: int, out: Path, progress: Progress = no_progress) -> Path:
    """Run the fp32 ``model`` on up to ``count`` of the samples by ONNX Runtime; return ``out/golden.npz``.

    The samples are chosen at random with a fixed seed, since a source is often sorted by class. Fewer are kept when
    they would make the bundle of a small model large. Raises ``DataError`` without samples, ``ModelError`` when an
    output is not an array of numbers or has no finite value.
    """
    from edgepack.data.samples import read_samples, take_samples

    if count < 1:
        raise ConfigError(f"{count} golden vectors verify nothing", hint=f"ask for at least 1, as {DEFAULT_COUNT}")
    if not samples.indices:
        raise DataError(f"{samples.source} has no samples to make golden vectors of")
    chosen = take_samples(samples, min(count, len(samples.indices)), _SAMPLING_SEED)
    feeds = read_samples(chosen, model.inputs)
    vectors = Golden(*_run(model, feeds, len(chosen.indices), progress))
    return write_golden(vectors, out / GOLDEN)


def _run(
    model: OnnxModel, feeds: Iterator[dict[str, Array]], count: int, progress: Progress
) -> tuple[tuple[Mapping[str, Array], ...], tuple[Mapping[str, Array], ...]]:
    engine = get_backend(REFERENCE)
    runner = engine.load_model(_as_compiled(model, engine.versions()), RunOptions(threads=1))  # one order of summation
    inputs: list[Mapping[str, Array]] = []
    outputs: list[Mapping[str, Array]] = []
    limit, size = max(_SMALL_BYTES, model.size_bytes // 4), 0
    try:
        for i, feed in enumerate(feeds):
            answer = {name: np.array(value) for name, value in runner.infer(feed).items()}
            _check_reference(answer, i)
            size += sum(array.nbytes for array in (*feed.values(), *answer.values()))
            if i and size > limit:
                break
            inputs.append(feed)
            outputs.append(answer)
            progress("golden vectors", i + 1, count)
    finally:
        runner.close()
    return tuple(inputs), tuple(outputs)


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


def _check_reference(answer: Mapping[str, Array], sample: int) -> None:
    for name, value in answer.items():
        if value.dtype.kind not in _KINDS:
            raise ModelError(
                f"the output {name!r} holds {value.dtype}, not numbers, and cannot be verified",
                hint="export the model without this output",
            )
        if value.size and value.dtype.kind == "f" and not np.isfinite(value).any():
            raise ModelError(
                f"the fp32 model's output {name!r} has no finite value for sample {sample}",
                hint="check the preprocessing of the samples, or the model itself",
            )


def with_tolerance(golden: Path, verification: Verification, precision: Precision, out: Path) -> Path:
    """Return ``out/golden.npz``: the vectors with the tolerance that the build's own measurement allows.

    ``verification`` is of the compiled model on these vectors. The policy is in ``tolerance.py``. Raises
    ``VerificationError`` when the build's own outputs do not keep it.
    """
    vectors = read_golden(golden)
    measured = {distance.name: distance for distance in verification.outputs}
    allowed = {}
    for name in vectors.outputs[0]:
        if name not in measured:
            raise ConfigError(f"the verification is not of these golden vectors: it has no output {name!r}")
        elements = sum(sample[name].size for sample in vectors.outputs)
        allowed[name] = tolerance(precision, measured[name], elements)
        _check_own(measured[name], allowed[name], precision)
    return write_golden(dataclasses.replace(vectors, tolerance=allowed), out / GOLDEN)


def _check_own(measured: OutputDistance, allowed: Tolerance, precision: Precision) -> None:
    if measured.nonfinite or not measured.passed:
        raise VerificationError(f"{precision}: the output {measured.name!r} is wrong: {measured.note or 'not finite'}")
    if measured.sqnr_db is not None and measured.sqnr_db < allowed.sqnr_db:
        raise VerificationError(
            f"{precision}: the output {measured.name!r} has an SQNR of {measured.sqnr_db:.1f} dB to the fp32 model's, "
            f"less than the {allowed.sqnr_db:.0f} dB that {precision} must have",
            hint="give more calibration samples, another --observer, or a higher precision"
            if precision == "int8"
            else "the engine may compute in a lower precision than asked for: see 'edgepack inspect'",
        )


def run_golden(
    infer: Callable[[Feeds], Mapping[str, Array]],
    vectors: Golden,
    engine: str,
    versions: Mapping[str, str],
    progress: Progress = no_progress,
) -> Verification:
    """Run every golden vector on this host by ``infer`` and compare the outputs with the fp32 model's."""
    outputs = []
    for i, feeds in enumerate(vectors.inputs):
        # The memory of an output may be reused by the next call.
        outputs.append({name: np.array(value) for name, value in infer(feeds).items()})
        progress("verify", i + 1, len(vectors.inputs))
    found = distances(vectors.outputs, outputs, vectors.tolerance)
    return Verification(
        passed=all(output.passed for output in found),
        outputs=found,
        samples=len(outputs),
        engine=engine,
        versions=versions,
        isa=host_facts().isa,
    )


def check_golden(vectors: Golden, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], where: str) -> None:
    """Refuse golden vectors without a tolerance or of another model. Raises ``BundleError``."""
    if vectors.tolerance is None:
        raise BundleError(
            f"the golden vectors of {where} have no tolerances",
            hint="pack the bundle again with 'edgepack build' or 'edgepack pack'",
        )
    names = {tensor.name for tensor in inputs}, {tensor.name for tensor in outputs}
    if (set(vectors.inputs[0]), set(vectors.outputs[0])) != names:
        raise BundleError(f"the golden vectors of {where} are of a model with other inputs or outputs")
    for sample in vectors.inputs:
        try:
            check_feeds(sample, inputs)
        except DataError as error:
            raise BundleError(f"the golden vectors of {where} do not fit the model: {error.message}") from None


# --- the file ---------------------------------------------------------------------------------------------------------


def write_golden(vectors: Golden, path: Path) -> Path:
    """Write ``vectors``; the same values give the same bytes."""
    arrays: dict[str, Array] = {}
    for kind, samples in (("input", vectors.inputs), ("output", vectors.outputs)):
        for i, sample in enumerate(samples):
            arrays.update({f"{kind}/{i}/{name}": array for name, array in sample.items()})
    if vectors.tolerance is not None:
        text = documents.to_json(_Tolerances(vectors.tolerance)).encode()
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
        return _assemble(arrays, where)
    except OSError as error:
        raise BundleError(f"{where} cannot be read: {error}") from None
    except (zipfile.BadZipFile, struct.error, ValueError, KeyError, EOFError, RuntimeError, OverflowError) as error:
        raise BundleError(f"{where} does not hold golden vectors: {error}") from None
    except EdgepackError as error:
        raise BundleError(f"{where}: {error.message}", hint="build the bundle again") from None


def _arrays(data: bytes) -> Iterator[tuple[str, Array]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                raise ValueError(f"{info.filename!r} is compressed")
            yield info.filename, _array(archive.read(info), info.filename)


def _array(data: bytes, name: str) -> Array:
    """Return the array in a .npy file of version 1.0, as a read-only view of ``data``."""
    buffer = io.BytesIO(data)
    if np.lib.format.read_magic(buffer) != (1, 0):
        raise ValueError(f"{name!r} has another version of .npy")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(buffer, max_header_size=_HEADER_LIMIT)
    if fortran or dtype.kind not in _KINDS or dtype.hasobject or dtype.names:
        raise ValueError(f"{name!r} is not a plain array of numbers")
    count = 1
    for size in shape:
        count *= size
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data) - buffer.tell():
        raise ValueError(f"{name!r} does not hold the shape it states")
    return np.frombuffer(data, dtype, count, buffer.tell()).reshape(shape) if count else np.zeros(shape, dtype)


def _assemble(arrays: Mapping[str, Array], where: str) -> Golden:
    found: dict[str, dict[int, dict[str, Array]]] = {"input": {}, "output": {}}
    allowed: Mapping[str, Tolerance] | None = None
    for member, array in arrays.items():
        if member == f"{_TOLERANCE}.npy":
            allowed = documents.from_json(_Tolerances, array.tobytes(), f"{where}: {_TOLERANCE}").outputs
        elif match := _MEMBER.fullmatch(member):
            found[match[1]].setdefault(int(match[2]), {})[match[3]] = array
        else:
            raise ValueError(f"{member[:80]!r} does not belong there")
    inputs, outputs = (tuple(found[kind][i] for i in sorted(found[kind])) for kind in ("input", "output"))
    if (
        not inputs
        or sorted(found["input"]) != list(range(len(inputs)))
        or found["input"].keys() != found["output"].keys()
    ):
        raise ValueError("inputs and outputs are not of the same samples")
    for samples in (inputs, outputs):
        if any(sample.keys() != samples[0].keys() for sample in samples):
            raise ValueError("the samples do not have the same names")
    if allowed is not None and allowed.keys() != outputs[0].keys():
        raise ValueError("the tolerance is not of these outputs")
    return Golden(inputs, outputs, allowed)
