"""A model is asked with several batches, and with another size of its free axes where it takes one."""

from __future__ import annotations

import pytest
from worker_files import worker_file


def test_batches_and_sizes_vary() -> None:
    assert list(worker_file("trials").answered(lambda *how: how)) == [(0, 1, 1), (1, 2, 1), (2, 3, 2)]


def test_a_model_of_one_size_is_asked_with_that() -> None:
    def ask(seed: int, batch: int, factor: int) -> tuple[int, int, int]:
        if factor != 1:
            raise ValueError("16 alone")
        return seed, batch, factor

    assert list(worker_file("trials").answered(ask)) == [(0, 1, 1), (1, 2, 1), (2, 3, 1)]


def test_what_fails_at_the_usual_size_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        list(worker_file("trials").answered(lambda *_: 1 // 0))
