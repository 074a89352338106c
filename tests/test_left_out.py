"""Files that a choice of marks leaves out whole are not imported; all others are."""

from __future__ import annotations

import pytest
from left_out import is_left_out

SLOW = "import pytest\n\npytestmark = pytest.mark.slow\n\n\ndef test_it(): ...\n"


@pytest.mark.parametrize(
    ("text", "chosen", "left_out"),
    [
        (SLOW, "not long and not slow and not own", True),
        (SLOW, "not slow", True),
        (SLOW, "not long and not own", False),
        (SLOW, "slow", False),
        (SLOW, "not slow or not long", False),
        (SLOW, "not slow and not long or own", False),
        (SLOW, "not (slow and long)", False),
        (SLOW, "", False),
        (SLOW.replace("slow", "slowest"), "not slow", False),
        (SLOW.replace("pytest.mark.slow", "[pytest.mark.slow, pytest.mark.timeout(9)]"), "not slow", True),
        (SLOW.replace("slow\n", "slow  # why\n"), "not slow", True),
        (SLOW.replace("pytest.mark.slow", "[needs('dpkg'), pytest.mark.slow]"), "not slow", False),
        ("@pytest.mark.slow\ndef test_it(): ...\n", "not slow", False),
        ("    pytestmark = pytest.mark.slow\n", "not slow", False),
    ],
)
def test_a_file_is_left_out_by_its_own_mark_alone(text: str, chosen: str, left_out: bool) -> None:
    assert is_left_out(text, chosen) is left_out
