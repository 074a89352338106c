"""Runs a bundle's golden vectors on this host and compares the outputs with the fp32 model's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
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
from edgepack.tasks.pictures import frame_of_input
from edgepack.verify.distance import distances
from edgepack.verify.golden import (
    GOLDEN,
    Compare,
    batch_to_load,
    check_golden,
    read_golden,
    run_golden,
)
from edgepack.verify.same_answers import compare_answers


@dataclass(frozen=True)
class Way:
    """One more way in which a bundle may be run here: a payload, how it is loaded, and for how many samples."""

    title: str
    payload: Payload
    options: RunOptions
    batch: int = 1


def verify(bundle: Path, options: RunOptions = RunOptions(), progress: Progress = no_progress) -> Verification:  # noqa: B008
    """Check ``bundle``, load it, run every golden vector and compare; ``passed``: all outputs are in tolerance.

    Every way in which the bundle may be run here counts, see ``other_ways``. Raises what ``load`` raises, and
    ``BundleError`` when the golden vectors are not of this model.
    """
    with load(bundle, options, progress) as model:
        found = verify_loaded(model, progress)
        ways = other_ways(model, options)
    return verify_ways(found, bundle, ways, progress)


def other_ways(model: LoadedModel, options: RunOptions) -> tuple[Way, ...]:
    """Return how else a bundle may be run here than it was loaded with ``options``.

    The engine that is preferred, with the options that were tuned and, where it is loaded for one batch, for that of
    the golden vectors; then the engines that stand in for it, unless the device would have to build them first.
    """
    preferred, payloads = model.payload, model.manifest.payloads
    size = batch_to_load(read_golden(read_member(model.bundle, GOLDEN)), model.inputs, model.backend)
    tuned = tuned_options(model.bundle, preferred, model.versions)
    ways = []
    if size is not None and options.fixed_batch is None:
        ways.append(Way(f"loaded for {size}", preferred, options, size))
    if tuned != RunOptions():
        threads = options.threads or tuned.threads
        ways.append(Way("tuned", preferred, dataclasses.replace(tuned, threads=threads)))
    later = (p for p in payloads[payloads.index(preferred) + 1 :] if p.key or not is_built_on_device(p.backend))
    return *ways, *(Way(engine_name(payload, options), payload, options) for payload in later)


def verify_ways(
    found: Verification, bundle: Path, ways: tuple[Way, ...], progress: Progress = no_progress
) -> Verification:
    """Return the verification with those of other ways, each loaded for itself; a way that is not here is left out."""
    for way in ways:
        try:
            with load(bundle, way.options, progress, batch=way.batch, only=way.payload) as model:
                other = verify_loaded(model, progress)
        except (ToolchainError, CompileError):
            continue
        outputs = tuple(dataclasses.replace(output, way=way.title) for output in other.outputs)
        notes = "; ".join(dict.fromkeys(note for note in (found.note, other.note) if note))
        found = dataclasses.replace(
            found, passed=found.passed and other.passed, outputs=(*found.outputs, *outputs), note=notes or None
        )
    return found


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
        compare = _compare(model)
        found = run_golden(model.infer, vectors, model.inputs, engine, model.versions, progress, compare)
    note = "; ".join(filter(None, (found.note, _note(model, host_facts()))))
    return dataclasses.replace(found, note=note or None)


def _compare(model: LoadedModel) -> Compare:
    """Return what compares a bundle's outputs with the golden ones: by what they say where it answers itself."""
    if "postprocessing" not in model.manifest.embedded:
        return distances
    making = model.making
    return compare_answers(making.task, frame_of_input(making), model.manifest.precision)


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
