"""``edgepack`` as a program, whose demonstrations measure their bundles for a quarter of the time that users' do."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from unittest.mock import patch

from edgepack.__main__ import main
from edgepack.demo import job
from edgepack.pipeline.settings import BuildSettings


def measured_briefly() -> AbstractContextManager[object]:
    """Let demonstrations measure for half a second a bundle."""
    return patch.object(job, "BuildSettings", functools.partial(BuildSettings, duration_s=0.5))


if __name__ == "__main__":
    with measured_briefly():
        main()
