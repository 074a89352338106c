"""The doctor's small model, and what is said of an engine that works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepack.engines.common.probe import RELU, check_relu, engine_probe, probe_backend
from edgepack.errors import ConfigError, EdgepackError


def test_the_bytes_are_a_valid_relu(tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(RELU)
    onnx.checker.check_model(proto)
    assert [node.op_type for node in proto.graph.node] == ["Relu"]
    assert proto.opset_import[0].version == 13


def test_the_reference_engine_runs_it() -> None:
    found = probe_backend("onnxruntime")
    assert found.devices == ("CPU",)
    assert "fp32" in found.precisions
    assert found.words == f"builds and runs on CPU in {', '.join(found.precisions)}"


def test_an_engine_that_computes_wrong_values_is_not_one_that_works() -> None:
    check_relu(np.float32([0, 2]))
    with pytest.raises(EdgepackError, match=r"it computes max\(0, \[-1, 2\]\) = \["):
        check_relu(np.float32([-1, 2]))


def test_an_engine_without_devices_does_not_work() -> None:
    with pytest.raises(EdgepackError, match="it finds no device"):
        engine_probe((), ("fp32",))


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'onnxrt'"):
        probe_backend("onnxrt")
