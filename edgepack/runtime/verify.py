"""Runs a bundle's golden vectors on this host and compares the outputs with the fp32 model's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgepack.bundle.archive import read_member
from edgepack.device.host import host_facts
from edgepack.engines import is_built_on_device
from edgepack.errors import CompileError, ToolchainError
from edgepack.runtime.load import LoadedModel, load, tuned_options
from edgepack.runtime.mapped import dropped_pages
from edgepack.specs.bundle import Payload
from edgepack.specs.run import RunOptions, Verification
from edgepack.specs.target import Host
from edgepack.specs.types import Progress, no_progress
from edgepack.verify.golden import (
    GOLDEN,
    LOADED_FOR_IT,
    Golden,
    batch_to_load,
    check_golden,
    read_golden,
    run_batches,
    run_golden,
)


def verify(bundle: Path, options: RunOptions = RunOptions(), progress: Progress = no_progress) -> Verification:  # noqa: B008
    """Check ``bundle``, load it, run every golden vector and compare; ``passed``: all outputs are in tolerance.

    Every way in which the bundle may be run here counts: the engine that is preferred, with the options that were tuned
    too, and those that stand in for it, unless the device would have to build them first.

    Raises what ``load`` raises, and ``BundleError`` when the golden vectors are not of this model.
    """
    with load(bundle, options, progress) as model:
        found = verify_loaded(model, progress)
        preferred, manifest = model.payload, model.manifest
        tuned = tuned_options(model.bundle, preferred, model.versions)
        vectors = read_golden(read_member(model.bundle, GOLDEN))
        size = batch_to_load(vectors, model.inputs, model.backend)
    if size is not None and options.fixed_batch is None:
        found = _with_fixed_batch(found, bundle, vectors, preferred, options, size)
    ways = [(preferred, dataclasses.replace(tuned, threads=options.threads or tuned.threads), "tuned")]
    later = manifest.payloads[manifest.payloads.index(preferred) + 1 :]
    ways = [*(ways if tuned != RunOptions() else []), *((p, options, "") for p in later if not built_later(p))]
    for payload, how, title in ways:
        found = _also(found, _verify_way(bundle, payload, how, progress), title or engine_name(payload, how))
    return found


def built_later(payload: Payload) -> bool:
    """Say whether a device would first have to build the engine of a payload, which takes minutes."""
    return is_built_on_device(payload.backend) and not payload.key


def _verify_way(bundle: Path, payload: Payload, options: RunOptions, progress: Progress) -> Verification | str:
    """Return the verification of one payload, or why it cannot be run here."""
    try:
        with load(bundle, options, progress, only=payload) as model:
            return verify_loaded(model, progress)
    except (ToolchainError, CompileError) as error:
        return error.message


def _with_fixed_batch(
    found: Verification, bundle: Path, vectors: Golden, payload: Payload, options: RunOptions, size: int
) -> Verification:
    """Return what is found too when the engine is loaded for the golden batch, as ``load(..., batch=N)`` does."""
    with load(bundle, options, batch=size, only=payload) as model:
        more, _ = run_batches(model.infer, vectors, model.inputs, LOADED_FOR_IT)
    outputs = (*found.outputs, *more)
    return dataclasses.replace(found, passed=all(output.passed for output in outputs), outputs=outputs)


def _also(found: Verification, other: Verification | str, way: str) -> Verification:
    """Return the verification with that of another way; one that cannot be run here is no fault of the first."""
    if isinstance(other, str):
        return found
    outputs = (*found.outputs, *(dataclasses.replace(output, way=way) for output in other.outputs))
    notes = [note for note in (found.note, other.note) if note]
    note = "; ".join(dict.fromkeys(notes)) or None
    return dataclasses.replace(found, passed=found.passed and other.passed, outputs=outputs, note=note)


def engine_name(payload: Payload, options: RunOptions) -> str:
    """Return an engine as results name it."""
    device = options.device or payload.device
    return payload.backend if device == "CPU" else f"{payload.backend} {device}"


def verify_loaded(model: LoadedModel, progress: Progress = no_progress) -> Verification:
    """Run the golden vectors of a loaded bundle."""
    vectors = read_golden(read_member(model.bundle, GOLDEN))
    check_golden(vectors, model.inputs, model.outputs, model.manifest.precision, str(model.bundle.path))
    engine = engine_name(model.payload, model.options)
    with dropped_pages(model.folder):
        found = run_golden(model.infer, vectors, model.inputs, engine, model.versions, progress)
    note = "; ".join(filter(None, (found.note, _note(model, host_facts()))))
    return dataclasses.replace(found, note=note or None)


def _note(model: LoadedModel, host: Host) -> str | None:
    """Say what a reader must know to judge the figures: another CPU than was measured on, an engine passed over."""
    notes = list(model.notes)
    measured = model.manifest.accuracy
    if measured is not None and measured.isa and model.manifest.precision != "fp32":
        lost = sorted(set(measured.isa) - set(host.isa))
        gained = sorted(set(host.isa) - set(measured.isa))
        if lost or gained:
            difference = " and ".join(
                text
                for text in (f"lacks {', '.join(lost)}" if lost else "", f"adds {', '.join(gained)}" if gained else "")
                if text
            )
            notes.append(f"this CPU {difference} compared with the one that the bundle's accuracy was measured on")
    return "; ".join(notes) or None
