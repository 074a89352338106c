"""Resident memory, from recorded files and of this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack.benchmark.measure.memory import peak_bytes, reset_peak, resident_bytes

STATUS = "Name:\tpython\nVmPeak:\t  999 kB\nVmHWM:\t   300 kB\nVmRSS:\t   200 kB\nRssAnon:\t 100 kB\n"


def test_kilobytes_of_linux_are_of_1024_bytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS)
    assert (resident_bytes(tmp_path), peak_bytes(tmp_path)) == (200 << 10, 300 << 10)


@pytest.mark.parametrize("text", ["", "VmRSS: lots kB\n", "XVmRSS: 3 kB\n", "VmRSS:\t3 MB\n"])
def test_what_does_not_say_so_is_not_known(tmp_path: Path, text: str) -> None:
    (tmp_path / "status").write_text(text)
    assert resident_bytes(tmp_path) is None
    assert peak_bytes(tmp_path) is None


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    nowhere = tmp_path / "nothing"
    assert (resident_bytes(nowhere), peak_bytes(nowhere), reset_peak(nowhere)) == (None, None, False)


def test_the_peak_is_reset_by_writing_a_five(tmp_path: Path) -> None:
    assert reset_peak(tmp_path)
    assert (tmp_path / "clear_refs").read_text() == "5"


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system has no /proc")
def test_memory_that_was_given_back_is_in_the_peak() -> None:
    before = resident_bytes()
    block = np.ones(64 << 20, np.uint8)
    held = resident_bytes()
    del block
    peak = peak_bytes()
    assert before is not None
    assert held is not None
    assert peak is not None
    assert held - before > 48 << 20
    assert peak > held - (4 << 20)  # Linux adds up what each thread counts, in batches
