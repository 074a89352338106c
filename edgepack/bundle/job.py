"""Calibration jobs: what a device measures of a model over samples of its own, in one file.

A job is an archive in the layout of a bundle: ``job.json``, the ONNX file with its external data below ``model/``, and
the tokenizer of a task about texts. Which tensors are observed is found where it is written, which takes the package
onnx; a device reads it with the standard library.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base import documents
from edgepack.base.files import open_regular, scratch_folder, storage_errors
from edgepack.base.stage import stage
from edgepack.bundle.archive import copy_entry, measure, open_archive, write_archive
from edgepack.bundle.layout import JOB, name_problem
from edgepack.bundle.manifest import (
    MANIFEST_LIMIT_BYTES,
    MODEL_FOLDER,
    SHA256,
    TASK_FOLDER,
    file_problems,
    input_problems,
    read_listing,
    tensor_problems,
)
from edgepack.errors import BundleError, ModelError
from edgepack.graph.external import find_place
from edgepack.graph.load import read_tensor
from edgepack.graph.walk import all_tensors, is_external
from edgepack.graph.wire import read_named
from edgepack.specs.bundle import FileEntry
from edgepack.specs.calibration import CalibrationJob, Derivation, Plan
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.specs.task import Task

if TYPE_CHECKING:
    import onnx

FORMAT = 1
MODEL = f"{MODEL_FOLDER}model.onnx"
_TOKENIZER = f"{TASK_FOLDER}tokenizer.json"
_AGAIN = "make it again with 'edgepack calibrate MODEL --job'"
_ZIP = b"PK\3\4"
_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class WrittenJob:
    """A job and what it says."""

    path: Path
    job: CalibrationJob


@stage("job")
def write_job(
    model: OnnxModel, preprocessing: Preprocessing | None, task: Task | None, tokenizer: Path | None, out: Path
) -> WrittenJob:
    """Write the job of measuring ``model`` on samples that ``preprocessing`` and ``task`` make its inputs of.

    ``tokenizer`` is that of a task about texts, None where one lies beside the samples. The same arguments give the
    same bytes. Raises ``ModelError`` as ``calibrate`` does, and for names that no job takes.
    """
    from edgepack.calibrate.tensors import make_plan, read_structure

    named = {f"{MODEL_FOLDER}{name}": model.path.parent / name for name in model.external}
    for name in named:
        if problem := name_problem(name):
            raise ModelError(
                f"the external data file {name.removeprefix(MODEL_FOLDER)!r} cannot be in a job: its name {problem}",
                hint="save the model with its data in one file: onnx.save(model, path, save_as_external_data=True)",
            )
    if tokenizer is not None:
        named[_TOKENIZER] = tokenizer
    structure = read_structure(model)
    plan = make_plan(structure)
    with scratch_folder(".job-", out) as scratch:
        named[MODEL] = _beside_its_data(model, structure, scratch) if model.external else model.path
        sources = {name: measure(path) for name, path in named.items()}
        job = CalibrationJob(
            format=FORMAT,
            model_sha256=model.sha256,
            opset=model.opset,
            inputs=model.inputs,
            outputs=model.outputs,
            plan=plan,
            preprocessing=preprocessing,
            task=_with_tokenizer(task, None),
            files=tuple(FileEntry(name, sources[name].sha256, sources[name].size_bytes) for name in sorted(sources)),
        )
        write_archive(out / "calibration.job", _job_bytes(job, model.path.name), sources, JOB)
    return WrittenJob(out / "calibration.job", job)


def _job_bytes(job: CalibrationJob, where: str) -> bytes:
    """Return ``job.json``, checked first: what is written can be read."""
    text = documents.to_json(job).encode("utf-8", "surrogatepass")
    if len(text) > MANIFEST_LIMIT_BYTES:
        raise ModelError(f"its job would list {len(text)} bytes of tensors; at most {MANIFEST_LIMIT_BYTES} are read")
    try:
        read_job(text, where)
    except BundleError as error:
        raise ModelError(
            f"no device would read its job: {error.message}",
            hint="export the model again with inputs of numbers, and names that can be printed",
        ) from error
    return text


def _beside_its_data(model: OnnxModel, structure: onnx.ModelProto, folder: Path) -> Path:
    """Return a file of a model with external data that ONNX Runtime reads as it is.

    Its small tensors are inside it, where shape inference needs them, as in the structure; so are all that were.
    """
    for tensor in all_tensors(structure):
        if is_external(tensor) and find_place(tensor).location == model.path.name:
            tensor.CopyFrom(read_tensor(tensor, model.path.parent))
    path = folder / "model.onnx"
    with storage_errors(path):
        path.write_bytes(structure.SerializeToString())
    return path


def is_job(path: Path) -> bool:
    """Say whether a file is to be read as a job: by its name, else by its first bytes, which no ONNX file has."""
    if path.suffix == ".job":
        return True
    try:
        with open_regular(path) as file:
            return file.read(len(_ZIP)) == _ZIP
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return False


@contextmanager
def open_job(path: Path, folder: Path) -> Iterator[tuple[CalibrationJob, OnnxModel]]:
    """Check a job from its first byte to its last, and give what it says with its model, unpacked below ``folder``.

    The files are removed at the end. The model reads no others: what weights are read from could leave the device as
    statistics. Raises ``BundleError`` for what is not a job, ``IntegrityError`` for contents that do not match
    ``job.json``, ``ModelError`` for a file that is not protobuf.
    """
    with open_archive(path, JOB, read_job) as (file, found), scratch_folder(".job-", folder) as scratch:
        job = found.listing
        for entry in job.files:
            place = scratch / entry.path
            with storage_errors(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as out:
                    copy_entry(found.members[entry.path], entry, file, out, path)
        own = [entry for entry in job.files if entry.path.startswith(MODEL_FOLDER)]
        model = OnnxModel(
            path=scratch / MODEL,
            sha256=job.model_sha256,
            size_bytes=sum(entry.size_bytes for entry in own),
            opset=job.opset,
            inputs=job.inputs,
            outputs=job.outputs,
            external=_external(job),
        )
        if strange := sorted(read_named(model.path).files - set(model.external)):
            raise BundleError(f"{path}: its model reads {strange[0][:80]!r}, which is not in the job", hint=_AGAIN)
        tokenizer = scratch / _TOKENIZER
        yield dataclasses.replace(job, task=_with_tokenizer(job.task, tokenizer if tokenizer.exists() else None)), model


def read_job(text: bytes, where: str) -> CalibrationJob:
    """Return the job in the bytes of ``job.json``, which are not trusted. Raises ``BundleError``."""
    job = read_listing(CalibrationJob, text, where, JOB, "job", FORMAT)
    for problem in _problems(job):
        raise BundleError(f"{where}: {JOB}: {problem}", hint=_AGAIN)
    return job


def _with_tokenizer(task: Task | None, path: Path | None) -> Task | None:
    """Return a task that names this tokenizer, or none: the samples' own folder may have one."""
    if task is None:
        return None
    others = {name: value for name, value in task.input.items() if name != "tokenizer"}
    return dataclasses.replace(task, input=others if path is None else {**others, "tokenizer": str(path)})


def _external(job: CalibrationJob) -> tuple[str, ...]:
    """Return the names of the model's external data files in its folder."""
    names = (entry.path for entry in job.files if entry.path.startswith(MODEL_FOLDER) and entry.path != MODEL)
    return tuple(name.removeprefix(MODEL_FOLDER) for name in names)


def _problems(job: CalibrationJob) -> Iterator[str]:
    yield from file_problems(job.files, (JOB,), (MODEL,))
    for entry in job.files:
        if not entry.path.startswith(MODEL_FOLDER) and entry.path != _TOKENIZER:
            yield f"files: {entry.path[:80]!r} is not of a job"
    own = next(entry.sha256 for entry in job.files if entry.path == MODEL)
    if not _external(job) and own != job.model_sha256:
        yield "model_sha256 is not that of the model in it"
    if not SHA256.fullmatch(job.model_sha256):
        yield "model_sha256 is not a sha256"
    yield from tensor_problems("inputs", job.inputs)
    yield from input_problems(job.preprocessing, job.task)
    yield from _plan_problems(job.plan, job.inputs)


def _plan_problems(plan: Plan, inputs: tuple[TensorSpec, ...]) -> Iterator[str]:
    floats = {spec.name for spec in inputs if spec.dtype == "float32"}
    if unknown := sorted(set(plan.inputs) - floats):
        yield f"plan: {unknown[0][:80]!r} is not a float32 input"
    if len(plan.sizes) != len(plan.measured) or any(size < 0 for size in plan.sizes):
        yield "plan: sizes are not those of what is measured"
    seen: set[str] = set()
    for name in (*plan.inputs, *plan.measured, *(one.tensor for one in plan.derived)):
        if name in seen or not name:
            yield f"plan: {name[:80]!r} is named twice, or has no name"
        seen.add(name)
    if not seen:
        yield "plan: nothing is measured"
    known = {*plan.inputs, *plan.measured}
    for one in plan.derived:
        if problem := _derivation_problem(one, known):
            yield f"plan: {one.tensor[:80]!r} {problem}"
        known.add(one.tensor)


def _derivation_problem(one: Derivation, known: set[str]) -> str | None:
    if not one.sources or not known.issuperset(one.sources):
        return "does not follow from tensors before it"
    low = -_LARGEST if one.low is None else one.low
    high = _LARGEST if one.high is None else one.high
    return None if -_LARGEST <= low <= high <= _LARGEST else f"is clipped to {one.low} and {one.high}"
