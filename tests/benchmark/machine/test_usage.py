"""What a process takes of the processors, and how long its threads wait."""

import time

import pytest

from edgepack.benchmark.machine.usage import Usage, usage


def test_both_times_are_added_and_subtracted():
    assert Usage(1.0, 0.5) + Usage(2.0, 0.25) == Usage(3.0, 0.75)
    assert Usage(3.0, 0.75) - Usage(2.0, 0.25) == Usage(1.0, 0.5)


def test_what_this_process_computes_counts():
    before = usage()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert (usage() - before).cpu_s >= 0.04


def test_waiting_is_summed_over_the_threads(tmp_path):
    for thread, line in (("7", "1000 250000000 3\n"), ("8", "9 500000000 1\n"), ("9", "not counted here\n")):
        (tmp_path / "proc/self/task" / thread).mkdir(parents=True)
        (tmp_path / "proc/self/task" / thread / "schedstat").write_text(line)
    assert usage(tmp_path).waited_s == pytest.approx(0.75)


def test_waiting_is_zero_where_no_system_tells_it(tmp_path):
    assert usage(tmp_path).waited_s == 0.0
