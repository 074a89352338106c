"""Packs a compiled model, its golden vectors and what is known about it into one bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgepack.base.files import scratch_folder
from edgepack.bundle.archive import Source, measure, write_archive
from edgepack.bundle.layers import write_layers
from edgepack.bundle.layout import name_problem, names_problem
from edgepack.bundle.manifest import (
    FORMAT,
    LAYERS,
    MODEL_FOLDER,
    SBOM,
    TASK_FOLDER,
    check_name,
    check_version,
    manifest_bytes,
)
from edgepack.bundle.requirements import requirements
from edgepack.bundle.sbom import sbom_bytes
from edgepack.engines import engine_of, part_of
from edgepack.engines.targets import device_facts_of
from edgepack.errors import BundleError, ConfigError
from edgepack.specs.bundle import FileEntry, LayerRecords, Manifest, MeasuredAccuracy, Payload
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import CompiledModel
from edgepack.specs.target import Target
from edgepack.specs.task import Task
from edgepack.specs.types import Precision, Progress, no_progress
from edgepack.verify.golden import GOLDEN, check_golden, read_golden


@dataclass(frozen=True)
class BundleFacts:
    """What a manifest says that the compiled model does not know itself.

    ``layers`` counts layers by the precision they have; ``toolchain`` maps packages to the versions that were used;
    ``licence`` is of the model, None when the user did not say. ``records`` become ``layers.json``.
    """

    name: str
    version: str
    target: Target
    precision: Precision
    preprocessing: Preprocessing | None
    classes: tuple[str, ...]
    layers: Mapping[str, int]
    accuracy: MeasuredAccuracy | None
    toolchain: Mapping[str, str]
    source_sha256: str
    calibration_sha256: str | None
    options: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None
    records: LayerRecords | None = None
    task: Task | None = None
    task_files: Mapping[str, Path] = field(default_factory=dict)
    embedded: Mapping[str, str] = field(default_factory=dict)


def pack(
    compiled: CompiledModel, golden: Path, about: BundleFacts, out: Path, progress: Progress = no_progress
) -> Path:
    """Write ``out/NAME.edgepack``, whole or not at all, and return its path; the same inputs give the same bytes.

    ``golden`` must hold the tolerance (``with_tolerance``). Memory does not grow with the model. Raises ``ConfigError``
    for a name or version that a bundle cannot have, ``BundleError`` when the parts do not fit together,
    ``StorageError`` on a full disk.
    """
    check_name(about.name)
    check_name(about.target.id, "target")
    check_version(about.version)
    if about.precision != compiled.precision:
        raise ConfigError(f"the compiled model is {compiled.precision}, not {about.precision}")
    check_golden(read_golden(golden), compiled.inputs, compiled.outputs, compiled.precision, about.name)
    files = _payload_files(compiled)
    sources: dict[str, Source] = {}
    with_task = {TASK_FOLDER + name: path for name, path in about.task_files.items()}
    for i, (name, path) in enumerate({**files, **with_task, GOLDEN: golden}.items()):
        progress("pack", i, len(files) + 2)
        sources[name] = measure(path)
    with scratch_folder(".pack-", _made(out)) as scratch:
        if about.records is not None:
            sources[LAYERS] = measure(write_layers(about.records, Path(scratch)))
        manifest = _manifest(compiled, about, sources)
        bill = scratch / SBOM
        bill.write_bytes(sbom_bytes(manifest, about.licence))
        sources[SBOM] = measure(bill)
        listed = dataclasses.replace(manifest, files=_entries(sources))
        path = out / f"{about.name}.edgepack"
        write_archive(path, manifest_bytes(listed), sources)
    progress("pack", len(files) + 2, len(files) + 2)
    return path


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _payload_files(compiled: CompiledModel) -> dict[str, Path]:
    """Return the engine's files by the name they have in the bundle."""
    prefix = f"{MODEL_FOLDER}{compiled.backend}/"
    if compiled.entry not in compiled.files:
        raise BundleError(f"the compiled model's entry {compiled.entry!r} is not one of its files")
    names = [prefix + name for name in compiled.files]
    for name in names:
        if problem := name_problem(name):
            raise BundleError(f"the engine's file {name!r} cannot be packed: its name {problem}")
    if problem := names_problem(names):
        raise BundleError(f"the engine's files cannot be packed: {problem}")
    for name in compiled.files:
        if not (compiled.folder / name).is_file():
            raise BundleError(f"the engine's file {compiled.folder / name} is missing", hint="compile again")
    return {prefix + name: compiled.folder / name for name in compiled.files}


def _manifest(compiled: CompiledModel, about: BundleFacts, sources: Mapping[str, Source]) -> Manifest:
    return Manifest(
        format=FORMAT,
        name=about.name,
        version=about.version,
        target=about.target.id,
        precision=compiled.precision,
        inputs=compiled.inputs,
        outputs=compiled.outputs,
        preprocessing=about.preprocessing,
        classes=about.classes,
        layers=about.layers,
        accuracy=about.accuracy,
        requirements=requirements(compiled, about.target),
        payloads=_payloads(compiled),
        toolchain={**compiled.versions, **about.toolchain},
        source_sha256=about.source_sha256,
        calibration_sha256=about.calibration_sha256,
        files=_entries(sources),
        options={**device_facts_of(about.target), **about.options},
        task=_packed(about.task) if about.task is not None else None,
        embedded=about.embedded,
    )


def _packed(task: Task) -> Task:
    """Return a task as a manifest says it: its classes stand elsewhere, its files are in the bundle."""
    return dataclasses.replace(task, classes=(), input={k: v for k, v in task.input.items() if k != "tokenizer"})


def _payloads(compiled: CompiledModel) -> tuple[Payload, ...]:
    """Return the payloads in order of preference: the engine's, then those of engines that run the same files."""
    prefix = f"{MODEL_FOLDER}{compiled.backend}/"
    payload = Payload(
        backend=compiled.backend,
        device=compiled.device,
        precision=compiled.precision,
        entry=prefix + compiled.entry,
        files=tuple(sorted(prefix + name for name in compiled.files)),
    )
    engine = engine_of(compiled.backend)
    if engine is None or not engine.companions:
        return (payload,)
    return payload, *part_of(compiled.backend, engine.companions)(payload)


def _entries(sources: Mapping[str, Source]) -> tuple[FileEntry, ...]:
    return tuple(FileEntry(name, sources[name].sha256, sources[name].size_bytes) for name in sorted(sources))
