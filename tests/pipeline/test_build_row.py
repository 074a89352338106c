"""One row of a build: what is only measured beside it costs a note."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from edgepack.errors import ChildError
from edgepack.pipeline import build_row
from edgepack.specs.bundle import LayerRecords


def test_a_measurement_that_fails_costs_a_note_not_the_row() -> None:
    def fail(*_: object, **__: object) -> LayerRecords:
        raise ChildError("layer_sqnr crashed")

    part: Any = SimpleNamespace(
        model=None, graph=None, source=None, id="board", selection=SimpleNamespace(evaluation=None), run=fail
    )  # stands for what is only handed on, and for the runner
    notes: dict[str, str] = {}
    assert build_row._layer_records(part, part, part, part, notes) is None
    assert notes == {"layers": "SQNR of each layer was not measured: layer_sqnr crashed"}
