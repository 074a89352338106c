"""Runs a bundle's golden vectors on this host and compares the outputs with the fp32 model's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgepack.bundle.archive import read_member
from edgepack.device.host import host_facts
from edgepack.runtime.load import LoadedModel, load
from edgepack.runtime.mapped import dropped_pages
from edgepack.specs.run import RunOptions, Verification
from edgepack.specs.target import Host
from edgepack.specs.types import Progress, no_progress
from edgepack.verify.golden import GOLDEN, check_golden, read_golden, run_golden


def verify(bundle: Path, options: RunOptions = RunOptions(), progress: Progress = no_progress) -> Verification:  # noqa: B008
    """Check ``bundle``, load it, run every golden vector and compare; ``passed``: all outputs are in tolerance.

    Raises what ``load`` raises, and ``BundleError`` when the golden vectors are not of this model.
    """
    with load(bundle, options, progress) as model:
        return verify_loaded(model, progress)


def verify_loaded(model: LoadedModel, progress: Progress = no_progress) -> Verification:
    """Run the golden vectors of a loaded bundle."""
    vectors = read_golden(read_member(model.bundle, GOLDEN))
    check_golden(vectors, model.inputs, model.outputs, model.manifest.precision, str(model.bundle.path))
    engine = model.backend if model.device == "CPU" else f"{model.backend} {model.device}"
    with dropped_pages(model.folder):
        found = run_golden(model.infer, vectors, model.inputs, engine, model.versions, progress)
    return dataclasses.replace(found, note=_note(model, host_facts()))


def _note(model: LoadedModel, host: Host) -> str | None:
    """Say what a reader must know to judge the figures: another CPU than was measured on, an engine passed over."""
    notes = [f"not used: {reason}" for reason in model.skipped] + ([model.chosen] if model.chosen else [])
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
