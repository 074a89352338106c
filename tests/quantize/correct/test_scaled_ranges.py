"""A model with scaled channels is measured again where its placement reads, and planned as if it were everywhere."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import helper
from quantize_models import normal, save

from edgepack.calibrate import calibrate
from edgepack.data.samples import find_samples
from edgepack.graph.load import save_proto
from edgepack.quantize.correct import scaled_ranges
from edgepack.quantize.correct.equalize import equalize
from edgepack.quantize.correct.scaled_ranges import plan_scaled
from edgepack.quantize.plan import make_plan
from edgepack.specs.data import Ranges, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

ENGINES = ["onnxruntime", "openvino"]


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A model's ranges, and the same model with scaled channels."""

    source: OnnxModel
    ranges: Ranges
    samples: SampleSet


@pytest.fixture
def scaled(tmp_path: Path, request: pytest.FixtureRequest) -> Scaled:
    """Three convolutions, the channels of the first a thousandfold apart, with hard-swish spelled in four nodes."""
    sizes = np.geomspace(0.03, 30, 8).astype(np.float32)
    nodes, last = [], "x"
    for number in (1, 2, 3):
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], name=f"conv{number}"))
        last = f"c{number}"
        if number < 3:
            nodes += [
                helper.make_node("Add", [last, "three"], [f"a{number}"], name=f"add{number}"),
                helper.make_node("Clip", [f"a{number}", "zero", "six"], [f"l{number}"], name=f"clip{number}"),
                helper.make_node("Mul", [last, f"l{number}"], [f"m{number}"], name=f"mul{number}"),
                helper.make_node("Div", [f"m{number}", "six"], [f"h{number}"], name=f"div{number}"),
            ]
            last = f"h{number}"
    constants = {
        "w1": normal(8, 3, 1, 1) * sizes[:, None, None, None],
        "w2": normal(8, 8, 1, 1, seed=2) / sizes[None, :, None, None],
        "w3": normal(4, 8, 1, 1, seed=3),
        **{name: np.float32(value) for name, value in (("zero", 0), ("three", 3), ("six", 6))},
    }
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": ["N", 3, 6, 6]}, outputs=["c3"])
    np.savez(tmp_path / "x.npz", x=normal(12, 3, 6, 6, seed=5))
    samples = find_samples(str(tmp_path / "x.npz"), model.inputs, None)
    ranges = calibrate(model, samples, "auto", 99.99, tmp_path / "ranges")
    rules = QuantizationRules(engine=request.node.callspec.params["engine"])
    found = equalize(make_plan(model, ranges, rules), [{"x": normal(1, 3, 6, 6, seed=n)} for n in range(8)])
    assert found is not None
    return Scaled(save_proto(found.proto, tmp_path / "source"), ranges, samples)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_plan_is_that_of_all_ranges(scaled: Scaled, engine: str, tmp_path: Path) -> None:
    rules = QuantizationRules(engine=engine)
    whole = calibrate(scaled.source, scaled.samples, "auto", 99.99, tmp_path / "whole")
    asked: list[Ranges] = []
    with pytest.MonkeyPatch.context() as patch:
        measure = scaled_ranges._measure
        patch.setattr(scaled_ranges, "_measure", lambda *words: asked.append(measure(*words)) or asked[-1])
        plan = plan_scaled(scaled.source, scaled.ranges, rules, scaled.samples, tmp_path / "part")
    assert plan.placement == make_plan(scaled.source, whole, rules).placement
    assert len(asked) == 1
    assert len(asked[0].tensors) < len(whole.tensors)
    assert asked[0].tensors.items() <= whole.tensors.items()


@pytest.mark.parametrize("engine", ENGINES[:1])
def test_a_range_that_is_read_and_was_not_measured_is_no_old_one(
    scaled: Scaled, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shares a scale may differ from the guess: then everything is measured."""
    rules = QuantizationRules(engine=engine)
    whole = calibrate(scaled.source, scaled.samples, "auto", 99.99, tmp_path / "whole")
    expected = make_plan(scaled.source, whole, rules).placement
    old = scaled.ranges.tensors
    read = next(name for name in expected.scales if name in old and old[name] != whole.tensors[name])
    measure = scaled_ranges._measure

    def without_one(*words: object) -> Ranges:
        found = measure(*words)  # type: ignore[arg-type]
        if len(words) < 5:
            return found
        return dataclasses.replace(found, tensors={n: r for n, r in found.tensors.items() if n != read})

    monkeypatch.setattr(scaled_ranges, "_measure", without_one)
    plan = plan_scaled(scaled.source, scaled.ranges, rules, scaled.samples, tmp_path / "part")
    assert plan.placement == expected
