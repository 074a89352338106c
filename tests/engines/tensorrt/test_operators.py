"""Which operators each version takes."""

from __future__ import annotations

from edgepack.engines.tensorrt.operators import operator_since, takes_operator


def test_every_dated_operator_is_taken_from_its_version_on() -> None:
    assert operator_since("Conv") == "8.5"
    assert operator_since("QLinearConv") is None
    assert (takes_operator("STFT", "10.4"), takes_operator("STFT", "10.5.0.18")) == (False, True)
