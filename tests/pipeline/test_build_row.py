"""One row of a build: what is only measured beside it costs a note."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgepack.errors import ChildError
from edgepack.pipeline import build_row
from edgepack.pipeline.settings import BuildSettings
from edgepack.specs.build import BuildRow
from edgepack.specs.bundle import LayerRecords
from edgepack.specs.types import Precision
from edgepack.verify.parts import Balance


def test_a_measurement_that_fails_costs_a_note_not_the_row() -> None:
    def fail(*_: object, **__: object) -> LayerRecords:
        raise ChildError("layer_sqnr crashed")

    part: Any = SimpleNamespace(
        model=None, graph=None, source=None, id="board", selection=SimpleNamespace(evaluation=None), run=fail
    )  # stands for what is only handed on, and for the runner
    notes: dict[str, str] = {}
    assert build_row._layer_records(part, part, part, part, notes) is None
    assert notes == {"layers": "SQNR of each layer was not measured: layer_sqnr crashed"}


@pytest.mark.parametrize(("precision", "level", "status"), [
    ("int8", 9.9, "poor"), ("int8", 10.0, "ok"), ("bf16", 9.9, "poor"), ("fp16", 9.9, "poor"), ("fp32", 9.9, "ok"),
    ("int8", None, "ok"),
])  # fmt: skip
def test_every_precision_below_fp32_is_held_to_the_floor(
    precision: Precision, level: float | None, status: str
) -> None:
    """bf16 has steps of 4 near 1000: it can lose what varies there as int8 does."""
    balance = Balance(24, level, None, "y", level)
    row = build_row._judged(BuildRow("board", precision, "ok"), balance, BuildSettings(model="m.onnx"))
    assert row.status == status
