"""Kernels whose operations are known, for the peaks of this CPU."""

from __future__ import annotations

import pytest

from edgepack.engines.openvino import peaks
from edgepack.engines.openvino.peaks import trials, versions

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "_SQUARES", (32, 48))
    monkeypatch.setattr(peaks, "_SIDE", 4)


def test_every_precision_has_products_and_a_convolution_and_they_run() -> None:
    found = list(trials(("fp32", "int8"), 1, ()))
    assert [(trial.precision, trial.amount) for trial in found] == [
        (precision, amount) for precision in ("fp32", "int8") for amount in (2 * 32**3, 2 * 48**3, 2 * 128**2 * 9 * 16)
    ]
    for trial in found:
        assert len(trial.call()) == 1


def test_a_precision_that_the_cpu_lacks_is_not_tried() -> None:
    assert list(trials(("int4",), 1, ())) == []  # type: ignore[arg-type]


def test_a_working_set_is_read_once_a_call() -> None:
    found = list(trials((), 1, (64 << 10, 1 << 20)))
    assert [(trial.working_set_bytes, trial.amount) for trial in found] == [(64 << 10, 64 << 10), (1 << 20, 1 << 20)]
    for trial in found:
        trial.call()


def test_the_version_is_openvinos() -> None:
    assert set(versions({})) == {"openvino"}
