"""What Python and what libedgepack say of a bundle under the policy of this device."""

from __future__ import annotations

from pathlib import Path

from cpp_library import Library, Refused

from edgepack.bundle.archive import open_bundle
from edgepack.errors import EdgepackError
from edgepack.trust.policy import admit


def both(library: Library, path: Path) -> tuple[Refused | None, Refused | None]:
    """Return how Python and how C++ refuse a bundle; None where it is taken."""
    try:
        admit(open_bundle(path))
        python = None
    except EdgepackError as error:
        python = Refused(type(error).__name__, error.message, error.hint)
    try:
        with library.load(path):
            cpp = None
    except Refused as refused:
        cpp = refused
    return python, cpp
