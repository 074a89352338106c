"""How often a profiled model is run."""

from __future__ import annotations

from typing import Any

import pytest

from edgepack.engines.common import profile as module
from edgepack.engines.common.profile import EngineNode, Profile, repeat


@pytest.mark.parametrize(("each_s", "runs"), [(10.0, 5), (0.1, 10), (0.001, 100)])
def test_a_model_runs_for_a_second_but_5_to_100_times(
    monkeypatch: pytest.MonkeyPatch, each_s: float, runs: int
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    seen: list[Any] = []

    def infer(feed: Any) -> None:
        seen.append(feed)
        now[0] += each_s * 1.0001

    feeds: Any = ["a", "b", "c"]
    assert repeat(infer, feeds) == runs == len(seen)
    assert seen[:4] == ["a", "b", "c", "a"]


def test_the_time_of_a_profile_is_that_of_all_nodes() -> None:
    nodes = tuple(EngineNode(name, (), "k", "fp32", ns, None, False, ()) for name, ns in (("a", 5), ("b", 7)))
    assert Profile(nodes, 3).time_ns == 12
    assert Profile((), 3).time_ns == 0
