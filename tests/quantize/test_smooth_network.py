"""Networks of SiLU and depthwise convolutions that are trained here keep their accuracy in int8 by default settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import smooth_network

from edgepack.demo.shapes import write_shapes
from edgepack.execution.store import Store
from edgepack.pipeline.build import build
from edgepack.pipeline.settings import BuildSettings


@pytest.mark.slow
@pytest.mark.long
def test_int8_lies_within_a_point_of_fp32_on_both_engines(tmp_path: Path) -> None:
    smooth_network.write(tmp_path)
    settings = BuildSettings(
        model=str(tmp_path / "smooth.onnx"),
        data=str(tmp_path / "calibration.npz"),
        eval=str(tmp_path / "evaluation.npz"),
        targets=("host-onnxruntime", "host-openvino"),
        precisions=("int8",),
        benchmark=False,
        out=tmp_path / "out",
    )
    result = build(settings, Store(tmp_path / "store"))
    assert [row.status for row in result.rows] == ["ok", "ok"]
    for row in result.rows:
        assert row.accuracy is not None
        assert row.accuracy.fp32 > 0.95, "it was not trained"
        assert row.accuracy.n == 600
        assert row.accuracy.drop <= 0.01, row.target
        assert row.balanced_sqnr_db is not None
        assert row.balanced_sqnr_db > 20, row.target


@pytest.mark.slow
@pytest.mark.own
def test_a_detector_loses_at_most_a_point_of_ap50_on_both_engines(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    smooth_network.write_detector(tmp_path)
    write_shapes(tmp_path / "shapes")
    settings = BuildSettings(
        model=str(tmp_path / "detector.onnx"),
        data=str(tmp_path / "shapes" / "calibration"),
        eval=str(tmp_path / "shapes" / "evaluation"),
        recipe=str(tmp_path / "shapes" / "shapes.toml"),
        metric="map50",
        targets=("host-onnxruntime", "host-openvino"),
        precisions=("int8",),
        benchmark=False,
        out=tmp_path / "out",
    )
    result = build(settings, Store(tmp_path / "store"))
    assert [row.status for row in result.rows] == ["ok", "ok"]
    for row in result.rows:
        assert row.accuracy is not None
        assert row.accuracy.fp32 > 0.65, "it was not trained"
        assert row.accuracy.n == 128
        assert row.accuracy.drop <= 0.01, row.target
        assert row.balanced_sqnr_db is not None
        assert row.balanced_sqnr_db > 15, row.target
