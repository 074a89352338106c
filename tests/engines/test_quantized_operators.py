"""Whatever stands between Q/DQ, an engine computes what they say, as ONNX Runtime does without optimizations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from installed_engines import skip_without
from operator_maker import OPERATORS, plain_session
from quantized_operators import joined

from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.graph.load import load_model
from edgepack.specs.run import RunOptions

# In steps: a value that falls between two of them may be rounded to either, of an input and of the result.
_MOST = 2.5
_FEWEST = 300
_REMOVED = {"Dropout"}  # by ``prepare``; OpenVINO's reader names an input after what it makes of it


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_every_operator_between_pairs_is_computed_as_written(engine: str, tmp_path: Path) -> None:
    skip_without(engine)
    found = joined(sorted(OPERATORS.keys() - _REMOVED))
    assert len(found.steps) > _FEWEST, "this compares too little"
    proto = found.proto()
    onnx.save(proto, tmp_path / "m.onnx")
    wanted = plain_session(proto.SerializeToString()).run(list(found.steps), found.feeds)
    backend = get_backend(engine)
    compiled = backend.compile_model(
        load_model(tmp_path / "m.onnx"), load_target(f"host-{engine}"), "int8", tmp_path / "out"
    )
    runner = backend.load_model(compiled, RunOptions(threads=1))
    got = runner.infer(found.feeds)
    runner.close()
    wrong = {
        name: f"{np.abs(got[name] - exact).max() / step:.1f} steps" if got[name].shape == exact.shape else "its shape"
        for (name, step), exact in zip(found.steps.items(), wanted, strict=True)
        if got[name].shape != exact.shape or np.abs(got[name] - exact).max() > _MOST * step
    }
    assert wrong == {}
