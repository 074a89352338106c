"""Packs a verified compiled model, and puts the bundle where the user asked for it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.files import atomic_write, sha256_file
from edgepack.base.stage import stage
from edgepack.bundle.archive import open_bundle
from edgepack.bundle.pack import BundleFacts, pack
from edgepack.engines.fallback import measured_with
from edgepack.errors import StorageError
from edgepack.graph.describe import describe
from edgepack.pipeline.toolchain import tool_versions
from edgepack.specs.bundle import LayerRecords, MeasuredAccuracy
from edgepack.specs.data import Ranges, SampleSet
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.run import Verification
from edgepack.specs.target import Target
from edgepack.specs.types import Precision
from edgepack.tasks import files_of
from edgepack.verify.evaluate import Evaluation
from edgepack.verify.golden import with_tolerance


@dataclass(frozen=True)
class Packed:
    """A bundle in the store."""

    path: Path
    sha256: str
    size_bytes: int
    model_bytes: int


def facts_of(
    name: str,
    version: str,
    target: Target,
    compiled: CompiledModel,
    evaluation: Evaluation,
    samples: SampleSet,
    source: OnnxModel,
    ranges: Ranges | None,
    records: LayerRecords | None,
) -> BundleFacts:
    """Return what a bundle's manifest says of a compiled model that was evaluated on ``samples``."""
    close = evaluation.closeness
    return BundleFacts(
        name=name,
        version=version,
        target=target,
        precision=compiled.precision,
        preprocessing=samples.preprocessing,
        classes=samples.classes or (samples.task.classes if samples.task is not None else ()),
        layers={},
        accuracy=MeasuredAccuracy(
            accuracy=evaluation.accuracy,
            sqnr_db=evaluation.judged_sqnr_db,
            cosine=close.cosine,
            agreement=close.agreement,
            n=close.n,
            engine=measured_with(compiled, evaluation.verification),
            isa=evaluation.verification.isa,
            note=evaluation.accuracy_reason,
        ),
        toolchain=tool_versions(),
        source_sha256=source.sha256,
        calibration_sha256=ranges.data_sha256 if ranges else None,
        records=records,
        task=samples.task,
        task_files=files_of(samples.task, Path(samples.source)),
    )


@stage("pack")
def pack_bundle(
    compiled: CompiledModel,
    golden: Path,
    verification: Verification,
    facts: BundleFacts,
    graph: OnnxModel | None,
    out: Path,
) -> Packed:
    """Give the golden vectors the tolerance that was measured, and pack. Raises ``VerificationError``.

    The layers of ``graph``, what was compiled, are counted by precision for the manifest; None leaves them out.
    """
    precision: Precision = compiled.precision
    if graph is not None:
        facts = dataclasses.replace(facts, layers=Counter(layer.precision for layer in describe(graph).layers))
    vectors = with_tolerance(golden, verification, precision, out)
    path = pack(compiled, vectors, facts, out)
    vectors.unlink()
    return Packed(path, sha256_file(path), path.stat().st_size, open_bundle(path).manifest.model_bytes)


def deliver_bundle(packed: Packed, final: Path) -> None:
    """Copy the bundle to ``final``, whole or not at all, unless it is there already.

    Raises ``StorageError`` when what is copied is not what was packed.
    """
    if final.is_file() and final.stat().st_size == packed.size_bytes and sha256_file(final) == packed.sha256:
        return
    digest = hashlib.sha256()
    with atomic_write(final) as file, packed.path.open("rb") as source:
        while piece := source.read(1 << 20):
            digest.update(piece)
            file.write(piece)
        if digest.hexdigest() != packed.sha256:
            raise StorageError(f"{packed.path} changed while it was copied", hint="run the build again")
