"""Work beside each other: every item once, in order, on the cores there are."""

from __future__ import annotations

import os
import threading

import pytest

from edgepack.base import parallel
from edgepack.base.parallel import each, usable_cores


def test_results_are_in_the_order_of_the_items_though_the_first_ends_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(10)  # never set unless both are under way at once
        if item == 1:
            second_is_done.set()
        return 10 * item

    assert each(work, iter(range(4))) == [0, 10, 20, 30]


def test_on_one_core_no_thread_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 1)
    assert each(lambda _: threading.get_ident(), range(3)) == [threading.get_ident()] * 3


def test_the_first_error_is_raised() -> None:
    def work(item: int) -> None:
        if item:
            raise ValueError(str(item))

    with pytest.raises(ValueError, match=r"^1$"):
        each(work, range(4))


def test_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores() == 7


def test_no_more_are_under_way_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 64)
    seen = set(each(lambda _: threading.get_ident(), range(50), most=2))
    assert len(seen) <= 2
    assert each(lambda _: threading.get_ident(), range(3), most=1) == [threading.get_ident()] * 3
