"""Copies by the C library, in several threads."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.profiling.peak_copy import trials, versions


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [4 << 10, 24 << 20])
def test_a_trial_moves_its_set_as_often_as_it_says(threads: int, size: int) -> None:
    (trial,) = trials(("fp32",), threads, (size,))
    assert trial.working_set_bytes == size
    part = size // (8 * threads)
    times = trial.amount // (8 * part * threads)
    assert trial.amount == 8 * part * threads * times
    assert times == max(1, (8 << 20) // size)
    assert trial.precision is None


def test_a_call_copies_in_every_thread() -> None:
    generator = trials((), 2, (64 << 10,))
    trial = next(generator)
    assert trial.call() == [None, None]  # the pool lives while the generator does
    assert list(generator) == []


def test_a_set_smaller_than_its_threads_is_still_one() -> None:
    (trial,) = trials((), 4, (8,))
    assert trial.amount > 0


def test_the_version_is_numpys() -> None:
    assert versions({}) == {"numpy": np.__version__}
