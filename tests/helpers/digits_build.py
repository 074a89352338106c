"""The digits demonstration, whose bundles are measured for a quarter of the time that users' are."""

from __future__ import annotations

from pathlib import Path

from brief_demo import measured_briefly

from edgepack.demo import job
from edgepack.execution.store import Store
from edgepack.specs.build import BuildResult


def build_digits(out: Path | str, store: Store) -> BuildResult:
    """Return what ``edgepack demo --model digits`` builds."""
    with measured_briefly():
        return job.demo("digits", str(out), store)
