"""Packs a verified compiled model, and puts the bundle where the user asked for it."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.files import atomic_write, sha256_file
from edgepack.build.stages import Compiled
from edgepack.bundle.pack import BundleFacts, pack
from edgepack.execution.runner import Workshop
from edgepack.execution.store import Store
from edgepack.graph.describe import describe
from edgepack.specs import CompiledModel, OnnxModel, Precision, Verification
from edgepack.verify.evaluate import Evaluation
from edgepack.verify.golden import with_tolerance


@dataclass(frozen=True)
class Packed:
    """A bundle in the store."""

    path: Path
    sha256: str
    size_bytes: int


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
    return Packed(path, sha256_file(path), path.stat().st_size)


def pack_step(
    shop: Workshop,
    compiled: Compiled,
    golden: Path,
    evaluation: Evaluation,
    facts: BundleFacts,
    graph: OnnxModel | None,
) -> Packed:
    """Return the packed bundle."""
    key = {"compiled": compiled.key, "evaluation": evaluation, "facts": facts, "graph": graph.sha256 if graph else None}
    detail = f"{facts.target.id} {facts.precision}"
    return shop.run("pack", detail, key, pack_bundle, compiled.model, golden, evaluation.verification, facts, graph)


def deliver_bundle(packed: Packed, final: Path, store: Store) -> None:
    """Copy the bundle to ``final``, whole or not at all, unless it is there already."""
    if final.is_file() and final.stat().st_size == packed.size_bytes and store.sha256(final) == packed.sha256:
        return
    with atomic_write(final) as file, packed.path.open("rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)
