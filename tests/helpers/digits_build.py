"""The digits demonstration, whose bundles are measured for a quarter of the time that users' are."""

from __future__ import annotations

import functools
from pathlib import Path
from unittest.mock import patch

from edgepack.demo import job
from edgepack.execution.store import Store
from edgepack.pipeline.settings import BuildSettings
from edgepack.specs.build import BuildResult


def build_digits(out: Path | str, store: Store) -> BuildResult:
    """Return what ``edgepack demo --model digits`` builds."""
    with patch.object(job, "BuildSettings", functools.partial(BuildSettings, duration_s=0.5)):
        return job.demo("digits", str(out), store)
