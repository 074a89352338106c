"""What a bundle's payloads are, data for an engine or native code, and whether a manifest tells of them truly."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from edgepack.engines import ENGINES, engine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgepack.specs.bundle import Manifest, Payload

_HOST = "host-"


def is_native(payload: Payload) -> bool:
    """Say whether a payload is code for a machine: whatever its engine does not compile when it loads it.

    Of an engine that this edgepack does not have nothing is known, so that it counts as code.
    """
    engine = engine_of(payload.backend)
    return engine is None or PurePosixPath(payload.entry).suffix not in engine.portable


def binding_problems(manifest: Manifest) -> Iterator[str]:
    """Yield where target, precision, requirements and payloads contradict each other.

    A bundle that looks like data must not fall back to code: code stands before all data, and says what it is for.
    """
    known = [payload for payload in manifest.payloads if engine_of(payload.backend) is not None]
    native = [is_native(payload) for payload in known]
    if native != sorted(native, reverse=True):
        yield "payloads: native code stands behind a payload of data"
    needs = manifest.requirements
    for payload in (payload for payload, code in zip(known, native, strict=True) if code):
        if not needs.arch and not payload.key:
            yield f"payloads: {payload.backend} is native code, and the requirements name no machine for it"
    for payload in manifest.payloads:
        if payload.precision != manifest.precision:
            yield f"payloads: {payload.backend} is {payload.precision}, the bundle {manifest.precision}"
    engine = manifest.target.removeprefix(_HOST)
    if manifest.target.startswith(_HOST) and engine in ENGINES and manifest.payloads:
        first = manifest.payloads[0].backend
        if first != engine:
            yield f"the target is {manifest.target}, the payload is for {first[:80]}"
