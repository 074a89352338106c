"""With which run options a bundle is measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import made_up
import pytest

from edgepack.benchmark.tune import options as module
from edgepack.benchmark.tune.options import plan_of, with_tuning
from edgepack.errors import ConfigError
from edgepack.runtime.tuning import Tuning
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions

SINGLE, OFFLINE = Scenario("SingleStream", 10**9, 10**8), Scenario("Offline", 10**9, 10**8)
BUNDLE = Path("x.edgepack")


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tuning of this device: two threads, and a batch of 16."""
    fields = {field.name: None for field in dataclasses.fields(Tuning)}
    tuning = Tuning(**{**fields, "options": RunOptions(threads=2), "batch": 16, "tuned_at": "2026-01-02T03:04:05Z"})  # type: ignore[arg-type]
    asked: list[Any] = []
    monkeypatch.setattr(module, "tuning_here", lambda *given: (asked.append(given), tuning)[1])
    monkeypatch.setattr(module, "about", lambda _tuning: "about it")
    return tuning, asked


def test_what_was_tuned_here_is_used(tuned: Any) -> None:
    assert plan_of(BUNDLE, SINGLE, None) == (SINGLE, RunOptions(threads=2), tuned[0])
    assert tuned[1] == [(BUNDLE, "SingleStream")]


def test_a_tuning_for_throughput_brings_its_batch(tuned: Any) -> None:
    scenario, _, _ = plan_of(BUNDLE, OFFLINE, None)
    assert scenario == dataclasses.replace(OFFLINE, batch=16)
    asked = dataclasses.replace(OFFLINE, batch=4)
    assert plan_of(BUNDLE, asked, None)[0] == asked


def test_options_that_were_asked_for_go_before_it(tuned: Any) -> None:
    assert plan_of(BUNDLE, SINGLE, RunOptions(threads=1)) == (SINGLE, RunOptions(threads=1), None)
    assert tuned[1] == []


def test_without_a_tuning_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "tuning_here", lambda *_: None)
    assert plan_of(BUNDLE, SINGLE, None) == (SINGLE, RunOptions(), None)


def test_a_scenario_that_makes_no_sense_is_refused_first(tuned: Any) -> None:
    with pytest.raises(ConfigError):
        plan_of(BUNDLE, dataclasses.replace(SINGLE, batch=0), None)
    assert tuned[1] == []


def test_a_result_says_where_its_options_are_from(tuned: Any) -> None:
    result = made_up.result()
    assert with_tuning(result, None) is result
    found = with_tuning(result, tuned[0])
    assert found.tuned == "about it"
    assert found.notes == (*result.notes, "run options as tuned on this device at 2026-01-02T03:04:05Z")
