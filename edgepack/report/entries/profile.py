"""What the shipped profile of a row's target knows: a report reads no file that a document names."""

from __future__ import annotations

import re
from functools import cache

from edgepack.base import resources
from edgepack.device.profiles import HOST_PREFIX
from edgepack.engines.targets import load_target
from edgepack.errors import EdgepackError
from edgepack.report.entries import Entry
from edgepack.specs.target import Target

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,80}")


@cache
def profile_of(target: str) -> Target | None:
    """Return the profile that comes with edgepack under that id; None for a machine's own, or one of the user's."""
    if not _ID.fullmatch(target) or target.startswith(HOST_PREFIX):
        return None
    if not (resources.targets_folder() / f"{target}.toml").is_file():
        return None
    try:
        return load_target(target)
    except EdgepackError:
        return None


def is_elsewhere(entry: Entry) -> bool:
    """Say whether an entry was built for a device that is not the machine of the build, and was not measured there."""
    return entry.result is None and entry.latency_ns == {} and not entry.target.startswith(HOST_PREFIX)
