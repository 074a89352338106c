"""Documents of figures that no measurement gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import made_up
import pytest

from edgepack.base.documents import to_json
from edgepack.errors import ConfigError
from edgepack.report.entries.impossible import impossible
from edgepack.report.entries.read import read_results
from edgepack.specs.build import Latency

GOOD = made_up.result(load_ns=1, first_answer_ns=1, model_bytes=1, latencies_ns=(1, 2))
P = GOOD.percentiles[0]


@pytest.mark.parametrize(
    "change",
    [
        *({name: -1} for name in (
            "queries", "warmup_queries", "duration_ns", "warmup_ns", "load_ns", "first_answer_ns", "size_bytes",
            "model_bytes", "memory_peak_bytes", "samples_per_second", "coefficient_of_variation",
        )),
        {"percentiles": (dataclasses.replace(P, value_ns=-5),)},
        {"latencies_ns": (3, -1, 4)},
        {"distribution_ns": (-1, 4)},
        {"samples_per_second_ci95": (-1.0, 1.0)},
        {"scenario": dataclasses.replace(GOOD.scenario, batch=0)},
    ],
    ids=str,
)  # fmt: skip
def test_a_result_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    assert impossible(GOOD) is None
    (tmp_path / "r.json").write_text(to_json(dataclasses.replace(GOOD, **change)))
    with pytest.raises(ConfigError, match=r"r\.json: .* is (-\d|0).*, which no measurement gives"):
        read_results([tmp_path])


@pytest.mark.parametrize("batch", [0, -1, -7])
def test_a_batch_is_named_as_it_is_written(batch: int) -> None:
    scenario = dataclasses.replace(GOOD.scenario, batch=batch)
    assert impossible(dataclasses.replace(GOOD, scenario=scenario)) == f"scenario: batch is {batch}"


@pytest.mark.parametrize(
    "change", [{"size_bytes": -1}, {"model_bytes": -1}, {"n": -1}, {"latency_ns": Latency(-1, 2)},
               {"latency_ns": Latency(1, -2)}, {"speedup_over_fp32": -1.0}], ids=str
)  # fmt: skip
def test_a_row_is_impossible(change: dict[str, Any]) -> None:
    row = made_up.row()
    assert impossible(row) is None
    assert impossible(dataclasses.replace(row, **change)) is not None
