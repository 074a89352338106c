"""Names the files of a calibration folder that are not samples and were ignored."""

from __future__ import annotations

from edgepack.data.samples import ignored_files
from edgepack.lint import Found, Inspected
from edgepack.specs.data import Finding

_SHOWN = 5


def check(inspected: Inspected) -> Found:
    """Return a note where files were ignored."""
    samples = inspected.calibration.samples
    names = ignored_files(samples)
    if not names:
        return Found()
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    text = f"{len(names)} files in {samples.source} are not samples and were ignored: {shown}"
    return Found((Finding("files", "note", text),))
