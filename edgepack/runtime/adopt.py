"""Packs an engine that this device built into a bundle, for identical devices: those with the same key."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import scratch_folder
from edgepack.bundle.archive import (
    Bundle,
    Source,
    copy_member,
    measure,
    open_bundle,
    open_checked,
    read_member,
    write_archive,
)
from edgepack.bundle.manifest import MODEL_FOLDER, SBOM, manifest_bytes
from edgepack.bundle.sbom import sbom_bytes
from edgepack.engines import ENGINES, KeptEngine, device_builder, is_built_on_device
from edgepack.errors import ConfigError, VerificationError
from edgepack.runtime.load import PLANS, load
from edgepack.runtime.native import note_built
from edgepack.runtime.verify import verify_loaded
from edgepack.specs.bundle import FileEntry, Manifest, Payload
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from typing import IO


def adopt(bundle: Path, out: Path, progress: Progress = no_progress) -> Payload:
    """Write ``out``: ``bundle`` with this device's engine as its first payload; return that payload.

    The engine must have been built here before (by installing or running the bundle). The new bundle is loaded and its
    golden vectors run before it gets its name. A signature is not taken over: the contents changed. Raises
    ``ConfigError`` for a bundle whose engine no device builds, or that this device has not built; ``VerificationError``
    when the new bundle does not prove itself.
    """
    with open_checked(bundle) as (file, checked):
        payload = next((p for p in checked.manifest.payloads if is_built_on_device(p.backend) and not p.key), None)
        if payload is None:
            titles = " or ".join(engine.title for _, engine in ENGINES.all() if engine.built_on_device)
            raise ConfigError(
                f"{bundle} has no {titles} payload whose engine could be packed",
                hint="give a bundle built for a Jetson",
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(".adopt-", out.parent) as scratch:
            kept = _find_kept(checked, payload, file, Path(scratch))
            made = scratch / out.name
            new = _write(checked, payload, kept, file, Path(scratch), made)
            _prove(made, progress)
            made.replace(out)
            note_built(open_bundle(out).sha256)
    return new


def _find_kept(bundle: Bundle, payload: Payload, file: IO[bytes], scratch: Path) -> KeptEngine:
    """Return this device's own engine of the payload, which must be kept already; its files are in ``scratch``."""
    builder = device_builder(payload.backend)
    assert builder is not None
    recipe = builder.recipe_file()
    name = next(name for name in payload.files if name.endswith(f"/{recipe}"))
    with (scratch / recipe).open("wb") as copy:
        copy_member(bundle, name, file, copy)
    beside = bundle.path.resolve().parent / PLANS
    kept = builder.kept_engine(scratch, beside if beside.is_dir() else None)
    if kept is None:
        raise ConfigError(
            f"this device has not built an engine of {bundle.path} yet", hint="install or run the bundle here first"
        )
    return kept


def _write(
    bundle: Bundle, payload: Payload, kept: KeptEngine, file: IO[bytes], scratch: Path, out: Path
) -> Payload:  # fmt: skip
    prefix = f"{MODEL_FOLDER}{kept.folder}/"
    sources = {prefix + name: measure(scratch / name) for name in kept.files}
    for entry in bundle.manifest.files:
        if entry.path == SBOM or entry.path.startswith(prefix):
            continue
        place = scratch / "members" / entry.path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as copy:
            copy_member(bundle, entry.path, file, copy)
        sources[entry.path] = measure(place)
    new = Payload(
        backend=payload.backend,
        device=payload.device,
        precision=payload.precision,
        entry=prefix + kept.entry,
        files=tuple(sorted(prefix + name for name in kept.files)),
        key=kept.key,
    )
    others = tuple(p for p in bundle.manifest.payloads if p.key != new.key)
    manifest = dataclasses.replace(bundle.manifest, payloads=(new, *others), files=_entries(sources))
    (scratch / SBOM).write_bytes(sbom_bytes(manifest, _licence(bundle)))
    sources[SBOM] = measure(scratch / SBOM)
    listed: Manifest = dataclasses.replace(manifest, files=_entries(sources))
    write_archive(out, manifest_bytes(listed), sources)
    return new


def _prove(made: Path, progress: Progress) -> None:
    with load(made, None, progress, allow_native=True, policy=False) as model:
        if not model.payload.key:
            raise VerificationError(
                f"the packed engine is not used here: {'; '.join(model.skipped)}", hint="install the bundle again"
            )
        result = verify_loaded(model, progress)
    if not result.passed:
        raise VerificationError("the packed engine computes wrong values here", hint="install the bundle again")


def _entries(sources: dict[str, Source]) -> tuple[FileEntry, ...]:
    return tuple(FileEntry(name, sources[name].sha256, sources[name].size_bytes) for name in sorted(sources))


def _licence(bundle: Bundle) -> str | None:
    """Return the licence that the old bill of materials states, None when it was not known."""
    try:
        component = json.loads(read_member(bundle, SBOM))["metadata"]["component"]
        return str(component["licenses"][0]["license"]["name"])
    except (ValueError, KeyError, TypeError, IndexError):
        return None
