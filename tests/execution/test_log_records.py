"""What a child logs is logged by its parent."""

from __future__ import annotations

import logging
from pathlib import Path

import child_functions
import pytest

from edgepack.execution import child


def test_remarks_of_a_child_are_logged_here_and_warnings_are_in_its_log(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "edgepack")
    log = tmp_path / "child.log"
    assert child.call(child_functions.remark, 3, limit_s=60, log=log) == 3
    assert [(r.name, r.levelname, r.message) for r in caplog.records] == [("edgepack.x", "INFO", "kernels: 3")]
    assert "a warning" in log.read_text()
