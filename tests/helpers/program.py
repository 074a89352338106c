"""Runs the command line in this process."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgepack.cli.main import cli


def main(words: Sequence[str]) -> int:
    """Return the exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    code = ended.value.code
    assert isinstance(code, int)
    return code
