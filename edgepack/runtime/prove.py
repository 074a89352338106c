"""Proves an installed bundle on its device: loaded, its engine built, its golden vectors run, in a child process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.files import scratch_folder
from edgepack.device.host import host_facts
from edgepack.errors import ChildError, VerificationError
from edgepack.execution import child
from edgepack.runtime.load import load
from edgepack.runtime.root import InstallRecord
from edgepack.runtime.trial import now_text
from edgepack.runtime.verify import other_ways, verify_loaded, verify_ways
from edgepack.specs.bundle import Manifest
from edgepack.specs.run import RunOptions, Verification
from edgepack.specs.types import Progress, no_progress

_LIMIT_S = 7200.0  # building an engine takes tens of minutes on a small board
_FORMAT = 1


@dataclass(frozen=True)
class Proof:
    """What the child process that loads and verifies a bundle returns."""

    engine: str
    chosen: str
    passed_over: tuple[str, ...]
    verification: Verification


def prove_in_child(
    manifest: Manifest, digest: str, folder: Path, options: RunOptions, progress: Progress
) -> InstallRecord:  # fmt: skip
    """Return the record of a copied bundle that was proved in a child process; ``digest`` is of its file.

    Raises ``VerificationError`` when that process dies, and what ``load`` raises.
    """
    name = f"{manifest.name}.edgepack"
    with scratch_folder("edgepack-install-") as scratch:
        log = scratch / "install.log"
        try:
            proof = child.call(prove, (folder / name).absolute(), options, limit_s=_LIMIT_S, log=log, progress=progress)
        except ChildError as error:
            words = error.log.strip().splitlines()
            raise VerificationError(
                f"the bundle could not be verified here: {error.message}" + (f"; {words[-1][:300]}" if words else ""),
                hint="the active version is unchanged; see 'dmesg' for the kernel's messages",
            ) from error
    return InstallRecord(
        format=_FORMAT,
        id=folder.name,
        name=manifest.name,
        version=manifest.version,
        target=manifest.target,
        precision=manifest.precision,
        file=name,
        sha256=digest,
        installed_at=now_text(),
        engine=proof.engine,
        chosen=proof.chosen,
        passed_over=proof.passed_over,
        verification=proof.verification,
        host=host_facts(),
    )


def prove(bundle: Path, options: RunOptions, progress: Progress = no_progress) -> Proof:
    """Load an installed bundle, building its engine where need be, and run its golden vectors (in a child process)."""
    with load(bundle, options, progress) as model:
        result = verify_loaded(model, progress)
        engine = model.backend if model.device == "CPU" else f"{model.backend} {model.device}"
        proof = Proof(engine, model.chosen, model.skipped, result)
        ways = other_ways(model, options)
    return dataclasses.replace(proof, verification=verify_ways(result, bundle, ways, progress))


def too_far(record: InstallRecord) -> str:
    """Return in words which outputs are wrong here."""
    wrong = [output for output in record.verification.outputs if not output.passed]
    words = ", ".join(
        f"{output.name}: " + (output.note or f"SQNR {output.sqnr_db} dB, at least {output.tolerance_sqnr_db}")
        for output in wrong
    )
    return f"{record.name} computes wrong values here with {record.engine} ({words}): it was not put in use"
