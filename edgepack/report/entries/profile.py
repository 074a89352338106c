"""What the shipped profile of a row's target knows: a report reads no file that a document names."""

from __future__ import annotations

from functools import cache

from edgepack.device.profiles import HOST_PREFIX
from edgepack.engines.targets import load_target, shipped_profile
from edgepack.errors import EdgepackError
from edgepack.report.entries import Entry
from edgepack.specs.target import Target


@cache
def profile_of(target: str) -> Target | None:
    """Return the profile that comes with edgepack under that id; None for a machine's own, or one of the user's."""
    if shipped_profile(target) is None:
        return None
    try:
        return load_target(target)
    except EdgepackError:
        return None


def is_elsewhere(entry: Entry) -> bool:
    """Say whether an entry was built for a device that is not the machine of the build, and was not measured there."""
    return entry.result is None and entry.latency_ns == {} and not entry.target.startswith(HOST_PREFIX)
