"""What the stages around the export show."""

from __future__ import annotations

from edgepack.pipeline.stages.export import short


def test_long_places_are_shown_short() -> None:
    assert short("net.onnx") == "net.onnx"
    assert short("/a/very/long/path/that/nobody/wants/to/read/in/a/terminal/data.npz") == "…/data.npz"
