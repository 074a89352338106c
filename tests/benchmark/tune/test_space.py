"""Changes of an engine's defaults, in words and combined."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.benchmark.tune.space import Candidate, combinations, describe_changes, with_changes
from edgepack.specs.run import Change, RunOptions

CHANGES: list[Change] = [
    ("threads", 1),
    ("threads", 2),
    ("spinning", False),
    ("pinning", True),
    ("arena", False),
    ("batch", 8),
]
HELPED = st.dictionaries(st.sampled_from(CHANGES), st.floats(-2, -0.01), max_size=6).map(
    lambda found: list(found.items())
)


@pytest.mark.parametrize(
    ("changes", "candidate", "words"),
    [
        ((), Candidate(RunOptions()), "defaults"),
        (
            (("threads", 2), ("spinning", False)),
            Candidate(RunOptions(threads=2, spinning=False)),
            "threads 2, spinning off",
        ),
        ((("batch", 8),), Candidate(RunOptions(), 8), "batch 8"),
        ((("fixed_batch", 0),), Candidate(RunOptions(fixed_batch=0)), "batch left free"),
        ((("batch", 8), ("fixed_batch", 1)), Candidate(RunOptions(fixed_batch=8), 8), None),
        ((("batch", 8), ("fixed_batch", 0)), Candidate(RunOptions(fixed_batch=0), 8), None),
    ],
)
def test_changes_are_options_and_words(changes: Any, candidate: Candidate, words: str | None) -> None:
    """A batch that is fixed is the one that is measured."""
    assert with_changes(changes) == candidate
    if words is not None:
        assert describe_changes(changes) == words


def test_an_option_that_there_is_not_is_a_defect() -> None:
    with pytest.raises(TypeError):
        with_changes([("speed", 1)])


@given(helped=HELPED, count=st.integers(0, 20), seed=st.integers(0, 9))
def test_no_combination_has_two_values_of_one_option(helped: Any, count: int, seed: int) -> None:
    found = combinations(helped, count, seed)
    assert len(found) <= count
    assert len({frozenset(chosen) for chosen in found}) == len(found)
    for chosen in found:
        assert 2 <= len(chosen) <= 4
        assert len({name for name, _ in chosen}) == len(chosen)
        assert set(chosen) <= {change for change, _ in helped}
    assert found == combinations(helped, count, seed)


def test_the_best_promise_comes_first() -> None:
    helped: Any = [(("threads", 1), -0.1), (("spinning", False), -0.5), (("pinning", True), -0.3)]
    found = combinations(helped, 4, 0)
    assert set(found[0]) == {("threads", 1), ("spinning", False), ("pinning", True)}
    assert set(found[1]) == {("spinning", False), ("pinning", True)}


def test_one_change_alone_is_no_combination() -> None:
    assert combinations([(("threads", 1), -0.1)], 10, 0) == []
    assert combinations([(("threads", 1), -0.1), (("threads", 2), -0.2)], 10, 0) == []
